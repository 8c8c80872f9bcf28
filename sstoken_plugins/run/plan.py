"""What a configuration comes down to: the method, its signals, what they need, and the history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import registry
from ..config import SSTokenConfig
from ..data import Counts, MicroBatch, Progress
from ..errors import Problem, Refused, refuse, refused
from ..guard import checked, expect
from ..histories import History
from ..measure import Measurement, Measurements
from ..methods import Method, Selection
from ..signals import Signal
from .anchor import k3_weights


class Plan:
    """Made before any model is loaded.

    Attributes:
        method: turns signals into weights.
        signals: all that the method may read, by name.
        measurements: all that the signals may need, each after those that it needs itself.
        history: the earlier version of the model; None if nothing needs it.
        relies_on_prompt: whether nothing but the attention to the prompt orders the tokens.
        relies_on_history: whether nothing else orders the tokens, so that a sample without history has no selection.

    Raises:
        Refused: for what cannot work together.
    """

    def __init__(self, config: SSTokenConfig) -> None:
        self._config = config

        def make(kind: str, name: str, *more: object) -> Any:
            return registry.lookup(kind, name)(config.options_of(kind, name), *more)

        self.method: Method = make("method", config.strategy)
        self.signals: dict[str, Signal] = {name: make("signal", name) for name in config.owners["signal"]}
        self.relies_on_history = bool(self.signals) and all(
            signal.zero_without_history for signal in self.signals.values()
        )
        self.relies_on_prompt = bool(self.signals) and all(
            "attention" in signal.needs for signal in self.signals.values()
        )
        self.history: History | None = None
        if config.reads_history:
            self.history = make("history", config.history, config.history)
            assert self.history is not None
            problems = self.history.problems(self.relies_on_history)
            is_right = isinstance(problems, Iterable) and not isinstance(problems, str)
            expect("history", config.history, self.history, "problems", problems, is_right, "a list of problems")
            refuse(problems)
            refuse(self._problems_of_pair(config))
            if "unprompted" in config.owners["measurement"] and not self.history.knows_any_text:
                raise Refused(
                    Problem(
                        "{strategy} is {method!r}, which asks the history model for answers without their prompts, "
                        "but {history} is {name!r}, which only knows the training data as they are: set {history} to "
                        "'base', 'adapter', 'snapshot', 'ema' or 'recorded'.",
                        method=config.strategy,
                        name=config.history,
                    )
                )
        self.measurements: dict[str, Measurement] = {
            name: make("measurement", name, self.history) for name in config.owners["measurement"]
        }

    def _problems_of_pair(self, config: SSTokenConfig) -> Iterator[Problem]:
        """What speaks against this method with this history."""
        if self.method.histories and config.history not in self.method.histories:
            yield Problem(
                "{strategy} is {method!r}, which is defined against {what}, but {history} is {name!r}: set {history} "
                "to {known}.",
                method=config.strategy,
                what=self.method.history_explained,
                name=config.history,
                known=" or ".join(map(repr, self.method.histories)),
            )

    @property
    def reads_the_model(self) -> bool:
        """Whether anything that is read depends on what the model says."""
        return bool(self.measurements)

    @property
    def selects(self) -> bool:
        """Whether all weights are 0 or 1."""
        return self.method.selects and not self._config.has_data_weights and not self.is_anchored

    @property
    def is_anchored(self) -> bool:
        """Whether the loss also holds the model to its history, on every response token."""
        return bool(self._config.anchor != "none")

    def n_kept(self, counts: Counts, progress: Progress) -> Tensor | None:
        """How many tokens of each document get a weight at most, if that is known before any pass: (N,) int64."""
        n_kept = None if self.is_anchored else self.method.n_kept(counts, progress)
        if n_kept is not None:
            checked("method", self._config.strategy, self.method, "n_kept", n_kept, counts.n_response, "document")
        return n_kept

    def denominator(self, batch: MicroBatch, progress: Progress) -> Tensor:
        """What a micro-batch adds to the number that the step's loss is divided by: a scalar."""
        divisor, counts = self._config.divisor, batch.counts
        n_response = counts.n_response
        per_document: Tensor | None = self.method.denominator(counts, progress)
        checked("method", self._config.strategy, self.method, "denominator", per_document, n_response, "document")
        if divisor == "response":
            per_document = n_response
        elif divisor == "samples":
            per_document = (n_response > 0).long()
        elif divisor == "kept":
            per_document = self.method.n_kept(counts, progress)
        elif divisor in ("weights", "abs_weights"):
            of_data = batch.weights
            assert of_data is not None  # granted by the options
            of_data = of_data.abs() if divisor == "abs_weights" else of_data
            per_document = torch.where(batch.documents.response, of_data, 0)
        if per_document is None:
            raise refused(
                "{divisor} is 'kept', but {strategy} {method!r} decides how many tokens it keeps only after the "
                "forward pass: set {divisor} to 'response'.",
                method=self._config.strategy,
            )
        # float64 where it exists: MPS has none.
        exact = torch.float32 if per_document.device.type == "mps" else torch.float64
        return per_document.to(exact).sum()

    def needs_at(self, progress: Progress) -> list[str]:
        """The measurements that have to be taken at this step, in order."""
        pending = [need for name in self._read_at(progress) for need in self.signals[name].needs]
        pending += ["log_probs", "history"] if self.is_anchored else []
        needed: set[str] = set()
        while pending:
            name = pending.pop()
            if name not in needed:
                needed.add(name)
                pending += self.measurements[name].needs
        return [name for name in self.measurements if name in needed]

    def _read_at(self, progress: Progress) -> Sequence[str]:
        """The signals that the method reads at this step."""
        names: Sequence[str] = self.method.signals(progress)
        is_right = isinstance(names, Iterable) and all(name in self.signals for name in names)
        what = f"a list of some of {', '.join(map(repr, self.signals)) or 'no signals'}, as its `reads` says,"
        expect("method", self._config.strategy, self.method, "signals", names, is_right, what)
        return names

    def select(self, measured: Measurements) -> Selection:
        """The selection that follows from measurements.

        Raises:
            PluginError: if the method or a signal fails, or returns something else than one number for each token.
        """
        documents, progress = measured.documents, measured.progress
        name = self._config.strategy
        ids = documents.ids
        signals = {
            each: checked("signal", each, self.signals[each], "__call__", self.signals[each](measured), ids)
            for each in self._read_at(progress)
        }
        weights = self.method.weights(signals, documents, progress)
        weights = checked("method", name, self.method, "weights", weights, ids)
        of_data = self._weights_of_data(measured) if self._config.has_data_weights else torch.ones_like(weights)
        weights = weights * of_data
        if self.is_anchored:
            pull = k3_weights(
                measured.log_probs, measured["history"], self._config.anchor_weight, self._config.anchor_clip
            )
            weights = weights + pull * of_data.abs()  # what is to be unlearned is not to be driven away for ever
        return Selection(measured, signals, torch.where(measured.documents.response, weights, 0).float())

    @staticmethod
    def _weights_of_data(measured: Measurements) -> Tensor:
        weights = measured.batch.weights
        if weights is None:
            raise refused(
                "{weights} or {weights_file} is set, but a batch came without its weights: give them to the selector "
                "before the data loader is made (`TokenSelector.data_weights`)."
            )
        return weights
