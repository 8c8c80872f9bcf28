"""What a signal is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from ..measure import Column, Measurements
from ..options import NoOptions


class Signal(ABC):
    """A number for every token: arithmetic on measurements.

    Attributes:
        Options: the dataclass of its options.
        needs: the measurements that it reads; they are taken only if a method reads the signal.
        column: how reports show it; None: not at all. A signal is shown wherever what it needs was measured.
        zero_without_history: whether it is 0 for a token that has no history, so that it orders nothing there.
    """

    kind = "signal"
    Options: ClassVar[type[NoOptions]] = NoOptions
    needs: ClassVar[frozenset[str]] = frozenset({"log_probs"})
    column: ClassVar[Column | None] = None
    zero_without_history: ClassVar[bool] = False

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @abstractmethod
    def __call__(self, measured: Measurements) -> Tensor:
        """(B, S) float; values off the response are ignored."""
