"""The one object that an integration talks to."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from . import plugins
from .attention import PromptAttention
from .config import SSTokenConfig
from .documents import Documents
from .dropout import Dropout
from .forward import TokenForward, check_against_logits, token_forward, unwrapped
from .head import output_head
from .histories import Lookup, TrainingRun
from .histories.recorded import RecordedHistory
from .reports import require_packages
from .selection import Selection, TokenScores
from .telemetry import Metrics

logger = logging.getLogger(__name__)


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
        history = plugins.lookup("history", config.history, plugins.histories())
        self.history = history(config) if "history" in self.needs else None
        self._probe: PromptAttention | None = None
        self._dropout: Dropout | None = None
        self._model: nn.Module | None = None
        self._checked = False
        self._passes = 0

    @property
    def needs(self) -> frozenset[str]:
        """What the signals in use need at any time: "history", "attention"."""
        return frozenset().union(*(signal.needs for signal in self._signals.values()))

    def attach(self, model: nn.Module, run: TrainingRun | None = None) -> None:
        """Prepares the model, before it is wrapped for distributed training.

        Args:
            run: what histories may want to know of the training; its `record` is replaced by that of `metrics`.

        Raises:
            ValueError: if this model cannot serve what was asked for.
        """
        self._model = model
        keep_4bit_differentiable(model)
        if Dropout(output_head(model)).active:
            raise ValueError(
                "The output head has an adapter with dropout (`lora_dropout`): its log-probabilities are computed a "
                "second time in the backward pass, where other elements would be dropped. Set `lora_dropout` to 0, or "
                "take `lm_head` out of `target_modules`."
            )
        if self.history is not None:
            self.history.attach(model, dataclasses.replace(run or TrainingRun(), record=self.metrics.record))
        if "attention" in self.needs:
            self._probe = PromptAttention(model, self.config.attention_layer)
        self._dropout = Dropout(model)
        if self._dropout.active and any(signal.reads_scores for signal in self._signals.values()):
            logger.warning(
                "The model has dropout: scores are taken without it, in one more forward pass. Set it to 0 "
                "(lora_dropout: 0) and the training pass itself gives the scores."
            )

    @property
    def lookup(self) -> Lookup | None:
        """What the data loader should do to every training batch, see `History.lookup`; without, it is done later."""
        return self.history.lookup() if self.history is not None else None

    def denominator(self, inputs: Mapping[str, Any]) -> Tensor:
        """What a micro-batch adds to the number that its optimizer step's loss is divided by: a float64 scalar.

        With selection this is the number of tokens that will be kept, known from the labels alone.
        """
        n_response = Documents.from_batch(inputs).n_response
        total: Tensor = self.strategy.denominator(n_response).double().sum()
        return total

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
            FloatingPointError: if a log-probability is not finite.
        """
        self._check(model, inputs)
        self._passes += 1
        documents = Documents.from_batch(inputs)
        names = self.strategy.signals(step)
        needs = frozenset().union(*(self._signals[name].needs for name in names))
        probe = self._probe if "attention" in needs else None

        history_log_probs = None
        if self.history is not None and "history" in needs:
            history_log_probs = self.history.log_probs(
                unwrapped(model), inputs, documents, lambda: self._score(model, inputs, documents).log_probs
            )
        # With dropout the training pass is no measure; without, it is the same pass.
        assert self._dropout is not None
        measure = self._dropout.active and any(self._signals[name].reads_scores for name in names)
        scored = self._score(model, inputs, documents, probe) if measure else None
        forward = token_forward(model, inputs, documents, None if scored else probe)
        measured = scored or forward
        log_probs = measured.log_probs.detach()
        if self.history is not None:
            self.history.remember(inputs, log_probs)
            if history_log_probs is not None:
                history_log_probs = self.history.compare(history_log_probs, log_probs)
        scores = TokenScores(
            documents=documents,
            input_ids=inputs["input_ids"],
            log_probs=log_probs,
            entropy=measured.entropy,
            history_log_probs=history_log_probs,
            attention=measured.attention,
            step=step,
        )
        _require_finite("current", forward.log_probs, scores)
        if history_log_probs is not None:
            _require_finite("history", history_log_probs, scores)
        selection = self.select(scores)
        plugins.plugin_manager().hook.observe(selection=selection, record=self.metrics.record)
        return forward, selection

    @torch.no_grad()
    def select(self, scores: TokenScores) -> Selection:
        """The selection that follows from known scores; runs no model."""
        signals = {name: self._signals[name](scores) for name in self.strategy.signals(scores.step)}
        weights = self.strategy.weights(signals, scores.documents, scores.step)
        return Selection(scores, signals, torch.where(scores.documents.response, weights, 0).float())

    @torch.no_grad()
    def inspect(self, model: nn.Module, inputs: Mapping[str, Any], step: int) -> Selection:
        """What `forward` would select, without learning from it: no gradient, no metric, no random number drawn, no
        observer told, and no history remembers it.

        The arguments are those of `forward`. The scores hold whatever the strategy may read at any step.
        """
        self._check(model, inputs)
        documents = Documents.from_batch(inputs)
        history_log_probs = None
        with torch.random.fork_rng(), self.metrics.paused():
            current = self._score(model, inputs, documents, self._probe)
            if self.history is not None:
                history_log_probs = self.history.compare(
                    self.history.log_probs(
                        unwrapped(model), inputs, documents, lambda: self._score(model, inputs, documents).log_probs
                    ),
                    current.log_probs,
                )
        scores = TokenScores(
            documents=documents,
            input_ids=inputs["input_ids"],
            log_probs=current.log_probs,
            entropy=current.entropy,
            history_log_probs=history_log_probs,
            attention=current.attention,
            step=step,
        )
        _require_finite("current", current.log_probs, scores)
        return self.select(scores)

    def record(self, model: nn.Module, inputs: Mapping[str, Any]) -> int:
        """Adds what the store of history 'recorded' lacks of a batch, before training.

        Returns:
            How many documents were new.
        """
        assert isinstance(self.history, RecordedHistory)
        self._check(model, inputs)
        return self.history.record(
            unwrapped(model), inputs, lambda batch: self._score(model, batch, Documents.from_batch(batch)).log_probs
        )

    def step_end(self, step: int, epoch: float | None = None) -> None:
        """To be called after every optimizer step; `step` counts them from 1, `epoch` is how many were done.

        Raises:
            RuntimeError: if the step was done without `forward`, so on every token.
        """
        if self._passes == 0:
            raise RuntimeError(
                f"Token selection is on, but training step {step} was done without it: another plugin, callback or "
                "trainer class computes the loss itself. Remove that one, or switch token selection off."
            )
        self._passes = 0
        if self.history is not None and self._model is not None:
            self.history.step_end(self._model, step, epoch)

    def describe(self) -> dict[str, Any]:
        """What a resumed run has to have in common with the run it continues, as JSON values."""
        return {"config": self.config.to_dict(), "history": dict(self.history.describe()) if self.history else {}}

    def _check(self, model: nn.Module, inputs: Mapping[str, Any]) -> None:
        if self._dropout is None:
            raise RuntimeError("TokenSelector.attach(model) has to be called before forward.")
        if not self._checked:
            with self._dropout.off():
                check_against_logits(model, inputs)
            self._checked = True

    @torch.no_grad()
    def _score(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, probe: PromptAttention | None = None
    ) -> TokenForward:
        assert self._dropout is not None
        with self._dropout.off():
            return token_forward(model, inputs, documents, probe)


def keep_4bit_differentiable(model: Any) -> None:
    """Stops bitsandbytes from repacking 4-bit layers in evaluation, on CPUs with AVX512-BF16.

    The repacked layers serve inference only: after one evaluation, the gradients of all later training steps are
    wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _require_finite(which: str, log_probs: Tensor, scores: TokenScores) -> None:
    if torch.isfinite(log_probs).all():
        return
    row, column = (~torch.isfinite(log_probs)).nonzero()[0].tolist()
    document = int(scores.documents.ids[row, column])
    tokens = scores.input_ids[row][scores.documents.ids[row] == document][:12].tolist()
    raise FloatingPointError(
        f"The {which} model's log-probability of a token is {log_probs[row, column].item()} in step {scores.step}, "
        f"row {row}, position {column} of the micro-batch (document {document}, which begins with token ids "
        f"{tokens}). The weights or the loss have diverged: lower the learning rate, or train in bfloat16 instead of "
        "float16."
    )
