"""A random choice: the control that every selection has to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from .base import Method
from .ranked import RankedMethod


class Random(RankedMethod):
    """A random rho of every document, drawn again at every step."""

    evidence = "not shown to be better than plain fine-tuning; it is a control"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["noise"]

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return signals["noise"]


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("random", Random)
