"""Numbers of the distributions of the history model, beyond the label's log-probability."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from ..data import MicroBatch
from ..errors import Refused, refused
from ..histories import History, TrainingRun
from ..markers import hookimpl
from .base import Column, HeadStatistic, Measurement, OwnPass, Passes
from .current import MassNotAbove
from .history import active


class HistoryStatistic(OwnPass):
    """A `HeadStatistic` of the history model: one pass of it.

    Stores hold the label's log-probability and nothing else, so the history has to be a model that can run.

    Attributes:
        Statistic: which one.
    """

    reads_history = True
    cost = "a forward pass of the history"
    Statistic: ClassVar[type[HeadStatistic]]

    def __init__(self, options: Any, history: History | None = None) -> None:
        super().__init__(options, history)
        if history is not None and not history.may_run:
            raise _keeps_labels_alone(history)
        self._statistic = self.Statistic(options, history)

    def attach(self, model: nn.Module, run: TrainingRun) -> None:
        if self.history is not None and not self.history.runs:
            raise _keeps_labels_alone(self.history)

    def measure(self, passes: Passes, batch: MicroBatch) -> Tensor:
        assert self.history is not None
        with active(self.history, passes.model):
            return passes.statistic(self._statistic.of, batch)


def _keeps_labels_alone(history: History) -> Refused:
    return refused(
        "{history} is {name!r}, which keeps the log-probability of each label and not the whole distribution, but "
        "{strategy} reads that: set {history} to 'base', 'adapter', 'snapshot' or 'ema', or choose what the "
        "probability of the label is enough for.",
        name=history.name,
    )


class HistoryMass(HistoryStatistic):
    """`sum q(v) over all v with q(v) <= q(label)`: how much of the history's probability is not above the label."""

    Statistic = MassNotAbove
    column = Column(
        "mass not above, history",
        "How much of the history model's probability is on tokens that it finds no more likely than this one.",
    )


@hookimpl
def register_measurements(register: Callable[[str, type[Measurement]], None]) -> None:
    register("history_mass", HistoryMass)
