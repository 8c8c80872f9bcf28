"""What a configuration comes down to: the method, its signals, what they need, and the history."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import registry
from ..config import SSTokenConfig
from ..data import Progress
from ..errors import Problem, Refused, refuse
from ..histories import History
from ..measure import Measurement, Measurements
from ..methods import Method, Selection
from ..signals import Signal


class Plan:
    """Made before any model is loaded.

    Attributes:
        method: turns signals into weights.
        signals: all that the method may read, by name.
        measurements: all that the signals may need, each after those that it needs itself.
        history: the earlier version of the model; None if nothing needs it.
        relies_on_history: whether nothing else orders the tokens, so that a sample without history has no selection.

    Raises:
        Refused: for what cannot work together.
    """

    def __init__(self, config: SSTokenConfig) -> None:
        self._config = config

        def make(kind: str, name: str, *more: object) -> object:
            return registry.lookup(kind, name)(config.options_of(kind, name), *more)

        self.method: Method = make("method", config.strategy)  # type: ignore[assignment]
        self.signals: dict[str, Signal] = {
            name: make("signal", name)  # type: ignore[misc]
            for name in config.owners["signal"]
        }
        self.relies_on_history = bool(self.signals) and all(
            signal.zero_without_history for signal in self.signals.values()
        )
        self.history: History | None = None
        if config.reads_history:
            self.history = make("history", config.history, config.history)  # type: ignore[assignment]
            assert self.history is not None
            refuse(self.history.problems(self.relies_on_history))
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
            name: make("measurement", name, self.history)  # type: ignore[misc]
            for name in config.owners["measurement"]
        }

    @property
    def reads_the_model(self) -> bool:
        """Whether anything that is read depends on what the model says."""
        return bool(self.measurements)

    def needs_at(self, progress: Progress) -> list[str]:
        """The measurements that have to be taken at this step, in order."""
        pending = [need for name in self.method.signals(progress) for need in self.signals[name].needs]
        needed: set[str] = set()
        while pending:
            name = pending.pop()
            if name not in needed:
                needed.add(name)
                pending += self.measurements[name].needs
        return [name for name in self.measurements if name in needed]

    def select(self, measured: Measurements) -> Selection:
        """The selection that follows from measurements.

        Raises:
            TypeError: if the method or a signal returns something else than one number for each token.
        """
        signals = {
            name: self._checked("signal", name, self.signals[name](measured), measured)
            for name in self.method.signals(measured.progress)
        }
        weights = self.method.weights(signals, measured.documents, measured.progress)
        weights = self._checked("method", self._config.strategy, weights, measured)
        return Selection(measured, signals, torch.where(measured.documents.response, weights, 0).float())

    def _checked(self, kind: str, name: str, values: Tensor, measured: Measurements) -> Tensor:
        expected = measured.documents.ids.shape
        if not isinstance(values, Tensor) or values.shape != expected:
            got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else repr(values)
            where = type(self.method if kind == "method" else self.signals[name]).__module__
            raise TypeError(
                f"The {kind} {name!r} of {where} returned {got}, where one number for each token was expected: shape "
                f"{tuple(expected)}."
            )
        return values
