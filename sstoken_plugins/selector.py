"""The one object that an integration talks to."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import plugins
from .attention import PromptAttention
from .config import SSTokenConfig
from .documents import IGNORE_INDEX, Documents
from .dropout import Dropout
from .forward import TokenForward, UnreadableHead, check_against_logits, logits_forward, token_forward, unwrapped
from .grounded import without_prompts
from .head import output_head, vocabulary_size
from .health import Health, require_finite
from .histories import History, Lookup, TrainingRun
from .histories.recorded import RecordedHistory
from .loading import BatchLookup
from .refusal import refuse
from .reports import require_packages
from .selection import Selection, TokenScores
from .store import BatchIndex
from .telemetry import Metrics

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Earlier:
    """What the history model says of a batch as it is, and of it without prompts: (B, S) each, if anybody reads it."""

    log_probs: Tensor | None = None
    unprompted: Tensor | None = None


class TokenSelector:
    """Chooses the tokens of every micro-batch and gives what their loss is made of.

        selector = TokenSelector(SSTokenConfig(rho=0.6))      # names and files are checked here, no model needed
        selector.attach(model)                                # after the adapter is on, before any wrapping
        for step, micro_batches in enumerate(loader):
            denominator = sum(selector.denominator(batch) for batch in micro_batches)
            for batch in micro_batches:
                forward, selection = selector.forward(model, batch, step)
                weighted_nll(forward.log_probs, selection.weights, denominator).backward()
            optimizer.step()
            selector.step_end(step + 1)

    Raises:
        ValueError: for unknown names and for what the chosen history can tell without the model.
    """

    def __init__(self, config: SSTokenConfig) -> None:
        self.config = config
        require_packages(config)
        self.metrics = Metrics()
        self.strategy = plugins.lookup("strategy", config.strategy, plugins.strategies())(config)
        known = plugins.signals()
        # Which signals are read can change with the step (a warm-up), so all that may be are looked up now.
        names = {name for step in (0, config.rel_warmup_steps) for name in self.strategy.signals(step)}
        self._signals = {name: plugins.lookup("signal", name, known)(config) for name in sorted(names)}
        make_history = plugins.lookup("history", config.history, plugins.histories())
        self.history: History | None = make_history(config) if "history" in self.needs else None
        if "unprompted" in self.needs and self.history is not None and not self.history.knows_any_text:
            raise ValueError(
                f"`strategy` is {config.strategy!r}, which asks the history model for answers without their prompts, "
                f"but `history` is {config.history!r}, which only knows the training data as they are: set `history` "
                "to 'base', 'adapter', 'snapshot', 'ema' or 'recorded'."
            )
        self._probe: PromptAttention | None = None
        self._dropout: Dropout | None = None
        self._model: nn.Module | None = None
        self._health = Health()
        self._checked = self._needs_logits = False
        self._passes = self._vocabulary = 0
        self._framework_loss = False
        if config.loss == "framework":
            self.leave_loss_to_framework("`loss` says so")

    @property
    def needs(self) -> frozenset[str]:
        """What the signals in use need at any time: "history", "attention", "unprompted"."""
        return frozenset().union(*(signal.needs for signal in self._signals.values()))

    def attach(self, model: nn.Module, run: TrainingRun | None = None) -> None:
        """Prepares the model, before it is wrapped for distributed training.

        Args:
            run: what histories may want to know of the training; its `record` is replaced by that of `metrics`.

        Raises:
            ValueError: if this model cannot serve what was asked for.
        """
        self._model = model
        self._vocabulary = vocabulary_size(output_head(model))
        keep_4bit_differentiable(model)
        if Dropout(output_head(model)).active:
            self.leave_loss_to_framework(
                "the output head has an adapter with dropout (`lora_dropout`), and other elements of it would be "
                "dropped when backward computes its log-probabilities again"
            )
        if self.history is not None:
            self.history.attach(model, dataclasses.replace(run or TrainingRun(), record=self.metrics.record))
        if "attention" in self.needs:
            self._probe = PromptAttention(model, self.config.attention_layer)
        self._dropout = Dropout(model)
        if (
            self._dropout.active
            and not self._framework_loss
            and any(signal.reads_scores for signal in self._signals.values())
        ):
            logger.warning(
                "The model has dropout: scores are taken without it, in one more forward pass. Set it to 0 "
                "(lora_dropout: 0) and the training pass itself gives the scores."
            )

    @property
    def lookup(self) -> Lookup:
        """What the data loader should do to every training batch; without, the device is asked later."""
        return BatchLookup(self.history.lookup() if self.history is not None else None)

    def denominator(self, inputs: Mapping[str, Any]) -> Tensor:
        """What a micro-batch adds to the number that its optimizer step's loss is divided by: a float64 scalar.

        With selection this is the number of tokens that will be kept, known from the labels alone.
        """
        index = BatchIndex.carried_by(inputs)
        n_response = Documents.from_batch(inputs).n_response if index is None else index.lengths
        total: Tensor = self.strategy.denominator(n_response).double().sum()
        return total

    def leave_loss_to_framework(self, reason: str) -> None:
        """Says that the loss has to be the framework's own, for a reason that ends a sentence with "because".

        Raises:
            ValueError: if the options or the strategy exclude it.
        """
        refuse(self.problems_of_framework_loss(reason))
        if not self._framework_loss:
            logger.warning(
                "The loss is the framework's own, over the kept tokens, because %s. That costs one more forward pass.",
                reason,
            )
        self._framework_loss = True

    def problems_of_framework_loss(self, reason: str) -> Iterator[str]:
        """What excludes a loss of the framework's own."""
        if self.config.loss == "own":
            yield (
                f"`loss` is 'own', but it has to be the framework's, because {reason}. Set `loss` to 'auto', or "
                "remove the cause."
            )
        if not self.strategy.selects:
            yield (
                f"`strategy` is {self.config.strategy!r}, which weighs tokens, but the loss has to be the framework's "
                f"own, which can only leave tokens out, because {reason}. Remove the cause, or choose a strategy that "
                "selects, such as 'sstoken'."
            )

    def uses_framework_loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> bool:
        """Whether the loss has to be the framework's own: then train on `filtered_labels`, and else on `forward`.

        The first call compares the output head with the model's own logits on a few tokens.

        Raises:
            ValueError: if it has to be, and the options or the strategy exclude it.
        """
        self._check_once(model, inputs)
        return self._framework_loss

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
        self._check_once(model, inputs)
        if self._framework_loss:
            raise RuntimeError("The loss is the framework's own here: train on `TokenSelector.filtered_labels`.")
        documents, index = self._documents(inputs)
        earlier = self._earlier(model, inputs, documents, self._needed(step))
        # With dropout the training pass is no measure; without, it is the same pass.
        assert self._dropout is not None
        measure = self._dropout.active and any(self._signals[name].reads_scores for name in self._names(step))
        scored = self._score(model, inputs, documents, self._probe_at(step)) if measure else None
        forward = token_forward(
            model, inputs, documents, None if measure else self._probe_at(step), n_kept=self._n_kept(index)
        )
        return forward, self._selection(inputs, documents, scored or forward, earlier, step, forward.log_probs)

    def filtered_labels(self, model: nn.Module, inputs: Mapping[str, Any], step: int) -> tuple[Tensor, Selection]:
        """The labels that are left when the dropped tokens have lost theirs, (B, S) int64, and the selection.

        For losses that only the framework can compute, where `uses_framework_loss`: it takes one over these labels and
        divides it by the sum of `denominator` over the step. Costs a forward pass without gradient.

        Args:
            model, inputs, step: as in `forward`.
        """
        self._check_once(model, inputs)
        documents, _ = self._documents(inputs)
        earlier = self._earlier(model, inputs, documents, self._needed(step))
        scored = self._score(model, inputs, documents, self._probe_at(step))
        selection = self._selection(inputs, documents, scored, earlier, step, scored.log_probs)
        return torch.where(selection.kept, inputs["labels"], IGNORE_INDEX), selection

    @torch.no_grad()
    def select(self, scores: TokenScores) -> Selection:
        """The selection that follows from known scores; runs no model."""
        signals = {name: self._signals[name](scores) for name in self._names(scores.step)}
        weights = self.strategy.weights(signals, scores.documents, scores.step)
        return Selection(scores, signals, torch.where(scores.documents.response, weights, 0).float())

    @torch.no_grad()
    def inspect(self, model: nn.Module, inputs: Mapping[str, Any], step: int) -> Selection:
        """What `forward` would select, without learning from it: no gradient, no metric, no random number drawn, no
        observer told, and no history remembers it.

        The arguments are those of `forward`. The scores hold whatever the strategy may read at any step.
        """
        self._check_once(model, inputs)
        documents, _ = self._documents(inputs)
        with torch.random.fork_rng(), self.metrics.paused():
            current = self._score(model, inputs, documents, self._probe)
            earlier = self._earlier(model, inputs, documents, self.needs)
        scores = self._token_scores(inputs, documents, current, earlier, step)
        require_finite("current", current.log_probs, scores)
        return self.select(scores)

    def record(self, model: nn.Module, inputs: Mapping[str, Any]) -> int:
        """Adds what the store of history 'recorded' lacks of a batch, before training.

        Returns:
            How many documents were new.
        """
        assert isinstance(self.history, RecordedHistory)
        self._check_once(model, inputs)
        inner = unwrapped(model)

        def score(batch: Mapping[str, Any]) -> Tensor:
            return self._score(model, batch, Documents.from_batch(batch), statistics=False).log_probs

        n_new = self.history.record(inner, inputs, score)
        if "unprompted" in self.needs:
            self.history.record(inner, without_prompts(inputs, Documents.from_batch(inputs)).inputs, score)
        return n_new

    def step_end(self, step: int, epoch: float | None = None) -> None:
        """To be called after every optimizer step; `step` counts them from 1, `epoch` is how many were done.

        Raises:
            RuntimeError: if the step was done without `forward`, so on every token.
            FloatingPointError: if a log-probability was not finite.
        """
        if self._passes == 0:
            raise RuntimeError(
                f"Token selection is on, but training step {step} was done without it: another plugin, callback or "
                "trainer class computes the loss itself. Remove that one, or switch token selection off."
            )
        self._passes = 0
        self._health.check()
        if self.history is not None and self._model is not None:
            self.history.step_end(self._model, step, epoch)

    def describe(self) -> dict[str, Any]:
        """What a resumed run has to have in common with the run it continues, as JSON values."""
        return {"config": self.config.to_dict(), "history": dict(self.history.describe()) if self.history else {}}

    # What a pass is made of

    def _names(self, step: int) -> Sequence[str]:
        names: Sequence[str] = self.strategy.signals(step)
        return names

    def _needed(self, step: int) -> frozenset[str]:
        return frozenset().union(*(self._signals[name].needs for name in self._names(step)))

    def _probe_at(self, step: int) -> PromptAttention | None:
        return self._probe if "attention" in self._needed(step) else None

    def _documents(self, inputs: Mapping[str, Any]) -> tuple[Documents, BatchIndex | None]:
        index = BatchIndex.carried_by(inputs)
        return Documents.from_batch(inputs, None if index is None else index.places), index

    def _n_kept(self, index: BatchIndex | None) -> int | None:
        n_kept = None if index is None else self.strategy.n_kept(index.lengths)
        return None if n_kept is None else sum(n_kept.tolist())

    def _earlier(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, needed: frozenset[str]
    ) -> _Earlier:
        if self.history is None or "history" not in needed:
            return _Earlier()

        def score(inputs: Mapping[str, Any], documents: Documents) -> Tensor:
            return self._score(model, inputs, documents, statistics=False).log_probs

        inner = unwrapped(model)
        log_probs = self.history.log_probs(inner, inputs, documents, lambda: score(inputs, documents))
        if "unprompted" not in needed:
            return _Earlier(log_probs)
        rest = without_prompts(inputs, documents)
        unprompted = self.history.log_probs_of_any_text(
            inner, rest.inputs, rest.documents, lambda: score(rest.inputs, rest.documents)
        )
        return _Earlier(log_probs, rest.back(unprompted))

    def _token_scores(
        self,
        inputs: Mapping[str, Any],
        documents: Documents,
        measured: TokenForward,
        earlier: _Earlier,
        step: int,
    ) -> TokenScores:
        log_probs, history_log_probs, unprompted = measured.log_probs.detach(), earlier.log_probs, earlier.unprompted
        if self.history is not None and history_log_probs is not None:
            history_log_probs = self.history.compare(history_log_probs, log_probs)
            if unprompted is not None:  # what nobody has recorded counts as no gain
                unprompted = torch.where(unprompted.isnan(), history_log_probs, unprompted)
        assert measured.entropy is not None
        return TokenScores(
            documents=documents,
            input_ids=inputs["input_ids"],
            log_probs=log_probs,
            entropy=measured.entropy,
            history_log_probs=history_log_probs,
            attention=measured.attention,
            step=step,
            vocabulary=self._vocabulary,
            unprompted_log_probs=unprompted,
        )

    def _selection(
        self,
        inputs: Mapping[str, Any],
        documents: Documents,
        measured: TokenForward,
        earlier: _Earlier,
        step: int,
        trained: Tensor,
    ) -> Selection:
        """What follows from a pass without dropout; `trained` are the log-probabilities that the loss is made of."""
        scores = self._token_scores(inputs, documents, measured, earlier, step)
        if self.history is not None:
            self.history.remember(inputs, scores.log_probs)
        self._passes += 1
        self._health.watch(scores, trained)
        selection = self.select(scores)
        plugins.plugin_manager().hook.observe(selection=selection, record=self.metrics.record)
        return selection

    @torch.no_grad()
    def _score(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        documents: Documents,
        probe: PromptAttention | None = None,
        statistics: bool = True,
    ) -> TokenForward:
        assert self._dropout is not None
        with self._dropout.off():
            if self._needs_logits:
                return logits_forward(model, inputs, documents, probe)
            return token_forward(model, inputs, documents, probe, statistics=statistics)

    # Which way to the loss

    def _check_once(self, model: nn.Module, inputs: Mapping[str, Any]) -> None:
        if self._dropout is None:
            raise RuntimeError("TokenSelector.attach(model) has to be called before forward.")
        if self._checked:
            return
        self._checked = True
        try:
            with self._dropout.off():
                check_against_logits(model, inputs)
        except UnreadableHead as error:
            self.leave_loss_to_framework(str(error))
            self._needs_logits = True


def keep_4bit_differentiable(model: Any) -> None:
    """Stops bitsandbytes from repacking 4-bit layers in evaluation, on CPUs with AVX512-BF16.

    The repacked layers serve inference only: after one evaluation, the gradients of all later training steps are
    wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
