"""The one object that an integration talks to.

It only hands on, and is longer than other files since each method says what may be relied on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import registry
from ..config import SSTokenConfig
from ..data import IGNORE_INDEX, BatchIndex, DataWeights, MicroBatch, Progress
from ..data.checks import check_form, check_values
from ..data.loading import BatchLookup, Lookup
from ..errors import Problem, refused
from ..guard import blame
from ..histories import History, TrainingRun
from ..histories.reference import ReferenceRecording
from ..measure import Measurements
from ..methods import Selection
from ..methods.outlook import outlook
from ..model import TokenForward
from ..model.head import known_tokens, output_head, vocabulary_size
from ..model.quantised import keep_4bit_differentiable
from .engine import Engine
from .health import Health, require_finite
from .loss_path import LossPath
from .metrics import Metrics
from .plan import Plan
from .recording import Recorder
from .state import described, restore, state_of


class TokenSelector:
    """Chooses the tokens of every micro-batch and gives what their loss is made of.

        selector = TokenSelector(SSTokenConfig(rho=0.6))      # names and files are checked here, no model needed
        selector.attach(model)                                # after the adapter is on, before any wrapping
        selector.begin(total_steps)
        for step, micro_batches in enumerate(loader):
            denominator = sum(selector.denominator(batch, step) for batch in micro_batches)
            for batch in micro_batches:
                forward, selection = selector.forward(model, batch, step)
                weighted_nll(forward.log_probs, selection.weights, denominator).backward()
            optimizer.step()
            selector.step_end(step + 1)

    Raises:
        Refused: for what the chosen method and history can tell without the model.
    """

    @blame()
    def __init__(self, config: SSTokenConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self.plan = Plan(config)
        self.method = self.plan.method
        self.history: History | None = self.plan.history
        self.total_steps: int | None = None
        self.data_weights: DataWeights | None = None
        self._engine = Engine(self.plan.measurements)
        self._loss = LossPath(config, self.plan.selects)
        self._health = Health(config.strategy, self.method)
        self._model: nn.Module | None = None
        self._run = TrainingRun()
        self._vocabulary = self._passes = self.n_tokens = 0

    @property
    def needs(self) -> frozenset[str]:
        """The measurements that may be taken at any step."""
        return frozenset(self.plan.measurements)

    @property
    def summary(self) -> str:
        """One line that says what was chosen and, once attached, what the history came down to."""
        return self.config.summary(None if self.history is None else self.history.decided)

    @property
    def outlook(self) -> Problem | None:
        """What was measured of the method, and what to compare it with; None for plain fine-tuning."""
        return outlook(type(self.method), self.config.strategy)

    @blame()
    def attach(self, model: nn.Module, run: TrainingRun | None = None) -> None:
        """Prepares the model, before it is wrapped for distributed training.

        Args:
            run: what may be wanted to know of the training; its `record` is replaced by that of `metrics`.

        Raises:
            Refused: if this model cannot serve what was asked for.
        """
        self._vocabulary = vocabulary_size(output_head(model))
        self.n_tokens = known_tokens(model)
        self._run = dataclasses.replace(
            run or TrainingRun(), record=self.metrics.record, relies_on_history=self.plan.relies_on_history
        )
        keep_4bit_differentiable(model)
        self._engine.attach(model, self._run)
        self._loss.attach(model, self._engine, self.plan.reads_the_model)
        self._model = model

    def begin(self, total_steps: int | None) -> None:
        """Says how many optimizer steps there will be, before the first one."""
        self.total_steps = total_steps

    def progress(self, step: int) -> Progress:
        """After so many optimizer steps."""
        return Progress(step, self.total_steps)

    @property
    def lookup(self) -> Lookup:
        """What the data loader should do to every training batch; without, the device is asked later.

        Raises:
            Refused: if the loss would be divided by a sum of weights of which some are negative.
        """
        if self.data_weights is not None and self.data_weights.negative and self.config.divisor == "weights":
            raise refused(
                "{row} has a weight below 0, but {divisor} is 'weights', and the sum of a step's weights may be 0 or "
                "less: set {divisor} to 'abs_weights'.",
                row=self.data_weights.negative,
            )
        of_history = self.history.lookup() if self.history is not None else None
        others = (each.lookup() for each in self.plan.measurements.values())
        return BatchLookup(self.n_tokens, of_history, *others, self.data_weights)

    @property
    def lookup_to_record(self) -> Lookup:
        """The same for batches that are recorded: nothing is looked up in a store that is being filled."""
        return BatchLookup(self.n_tokens)

    @blame()
    def denominator(self, inputs: Mapping[str, Any], step: int = 0) -> Tensor:
        """What a micro-batch adds to the number that its optimizer step's loss is divided by: a scalar.

        Known before any pass. With selection it is the number of tokens that will be kept.
        """
        batch = MicroBatch.of(inputs)
        total = self.plan.denominator(batch, self.progress(step))
        if self.config.divisor is None:
            self._health.watch_denominator(total, batch.counts.n_response.sum())
        return total

    def use_framework_loss(self, reason: str) -> None:
        """Says that the loss has to be the framework's own, for a reason that ends a sentence with "because".

        Raises:
            Refused: if the options or the method exclude it.
        """
        self._loss.use_framework(reason)

    def problems_of_framework_loss(self, reason: str) -> Iterator[Problem]:
        """What excludes a loss of the framework's own."""
        return self._loss.problems(reason)

    def uses_framework_loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> bool:
        """Whether the loss has to be the framework's own: then train on `filtered_labels`, and else on `forward`.

        The first call compares the output head with the model's own logits on a few tokens.

        Raises:
            Refused: if it has to be, and the options or the method exclude it.
        """
        self._require_attached()
        check_form(inputs)
        if inputs["labels"].device.type == "cpu" and BatchIndex.carried_by(inputs) is None:
            check_values(inputs, self.n_tokens)  # what the data loader has made was looked at there
        return self._loss.is_framework(model, inputs)

    @blame()
    def forward(self, model: nn.Module, inputs: Mapping[str, Any], step: int) -> tuple[TokenForward, Selection]:
        """The training pass of a micro-batch, and what to learn from it.

        Args:
            model: the model as the trainer calls it, wrapped or not.
            inputs: the batch as the collator gives it: `input_ids`, `labels`, ...
            step: optimizer steps done so far.

        Returns:
            The differentiable results of the pass, and the selection with its `weights`. The loss is
            `weighted_nll(forward.log_probs, selection.weights, denominator)`.

        Raises:
            RuntimeError: if the loss is the framework's own; see `filtered_labels`.
        """
        if self.uses_framework_loss(model, inputs):
            raise RuntimeError("The loss is the framework's own here: train on `TokenSelector.filtered_labels`.")
        batch, progress = MicroBatch.of(inputs), self.progress(step)
        n_kept = self._n_kept(batch, progress)
        forward, known = self._engine.training_pass(model, batch, self.plan.needs_at(progress), n_kept)
        return forward, self._learn(batch, known, progress, forward.log_probs, n_kept)

    @blame()
    def filtered_labels(self, model: nn.Module, inputs: Mapping[str, Any], step: int) -> tuple[Tensor, Selection]:
        """The labels that are left when the dropped tokens have lost theirs, (B, S) int64, and the selection.

        For losses that only the framework can compute, where `uses_framework_loss`: it takes one over these labels and
        divides it by the sum of `denominator` over the step. Costs a forward pass without gradient.

        Args:
            model, inputs, step: as in `forward`.
        """
        self.uses_framework_loss(model, inputs)
        batch, progress = MicroBatch.of(inputs), self.progress(step)
        known = self._engine.measure(model, batch, self.plan.needs_at(progress))
        selection = self._learn(batch, known, progress, known["log_probs"], self._n_kept(batch, progress))
        return torch.where(selection.kept, inputs["labels"], IGNORE_INDEX), selection

    @blame()
    @torch.no_grad()
    def select(self, measured: Measurements) -> Selection:
        """The selection that follows from known measurements; runs no model."""
        return self.plan.select(measured)

    @blame()
    @torch.no_grad()
    def inspect(self, model: nn.Module, inputs: Mapping[str, Any], step: int) -> Selection:
        """What `forward` would select, without learning from it: no gradient, no metric, no random number drawn, no
        observer told, and neither history nor method remembers it.

        The arguments are those of `forward`. Whatever the method may read at any step is measured.
        """
        self.uses_framework_loss(model, inputs)
        batch = MicroBatch.of(inputs)
        with torch.random.fork_rng(), self.metrics.paused():
            known = self._engine.measure(model, batch, self.plan.measurements)  # in the order of their needs
        measured = Measurements(batch, self.progress(step), self._vocabulary, known)
        require_finite("current", measured.log_probs, measured)
        return self.select(measured)

    def recorder(self) -> Recorder:
        """What fills the store of a recorded history.

        Raises:
            Refused: if these options read none.
        """
        recording = self.history.recording if self.history is not None else None
        if recording is None:
            raise refused(
                "Nothing to record: these options ({summary}) read no recorded history. Set {history} to 'recorded', "
                "and {strategy} to one that reads it.",
                summary=self.summary,
            )
        return Recorder(recording, "unprompted" in self.needs)

    def reference_recorder(self, folder: str) -> Recorder:
        """What fills the store of a reference from the attached model as it is, whatever the options read.

        Raises:
            Refused: if the folder holds something else, or what another model recorded.
        """
        self._require_attached()
        assert self._model is not None
        return Recorder(ReferenceRecording(folder, self._model, self._run), without_prompts=False)

    @blame()
    def record(self, model: nn.Module, inputs: Mapping[str, Any], recorder: Recorder) -> int:
        """Adds what the store lacks of a batch, before training; returns how many documents were new."""
        self.uses_framework_loss(model, inputs)
        return recorder.record(self._engine.passes(model), MicroBatch.of(inputs))

    @blame()
    def step_end(self, step: int, epoch: float | None = None) -> None:
        """To be called after every optimizer step; `step` counts them from 1, `epoch` is how many were done.

        Raises:
            RuntimeError: if the step was done without `forward`, so on every token.
            FloatingPointError: if a log-probability or a weight was not finite.
        """
        if self._passes == 0:
            raise RuntimeError(
                f"Token selection is on, but training step {step} was done without it: another plugin, callback or "
                "trainer class computes the loss itself. Remove that one, or switch token selection off."
            )
        self._passes = 0
        self.metrics.step_end()
        self._health.check()
        if self.history is not None and self._model is not None:
            self.history.step_end(self._model, step, epoch)
        self.method.step_end(self.progress(step), self._run.reduce)

    # What a checkpoint holds

    def describe(self) -> dict[str, Any]:
        """What a resumed run has to have in common with the run it continues, as JSON values."""
        return described(self.config, self.plan)

    @blame()
    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs to continue exactly."""
        return state_of(self.config, self.plan)

    @blame()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores `state_dict`."""
        restore(self.plan, state)

    # What a pass is made of

    def _n_kept(self, batch: MicroBatch, progress: Progress) -> int | None:
        n_kept = self.plan.n_kept(batch.counts, progress) if batch.has_index else None
        return None if n_kept is None else sum(n_kept.tolist())

    def _learn(
        self, batch: MicroBatch, known: Mapping[str, Tensor], progress: Progress, trained: Tensor, n_kept: int | None
    ) -> Selection:
        """What follows from a pass; `trained` are the log-probabilities that the loss is made of."""
        measured = Measurements(batch, progress, self._vocabulary, known)
        if self.history is not None:
            self.history.remember(batch, measured.log_probs)
        self._passes += 1
        selection = self.select(measured)
        self._health.watch(selection, trained, n_kept)
        response = batch.documents.response
        self.metrics.record_in_step("loss_all", -torch.where(response, trained, 0).sum(), response.sum())
        self.method.observe(selection)
        registry.plugin_manager().hook.observe(selection=selection, record=self.metrics.record)
        return selection

    def _require_attached(self) -> None:
        if self._model is None:
            raise RuntimeError("TokenSelector.attach(model) has to be called before forward.")
