"""The best by one signal: for ablations, and for signals of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..errors import Problem
from ..markers import hookimpl
from ..options import option
from .base import Method
from .ranked import RankedMethod, RhoOptions


@dataclass(frozen=True)
class SignalOptions(RhoOptions):
    signal: str | None = option(None, "Name of the signal that tokens are ranked by.", shown=True)

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if not self.signal:
            yield Problem("{strategy} is 'signal' but {signal} is not set: set it to the name of a signal.")


class BestBySignal(RankedMethod):
    """The rho highest by one signal, as it is."""

    Options = SignalOptions

    def signals(self, progress: Progress) -> Sequence[str]:
        return [self.options.signal] if self.options.signal else []

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return signals[self.options.signal]


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("signal", BestBySignal)
