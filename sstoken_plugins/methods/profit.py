"""ProFit: tokens below a fixed probability do not train (arXiv 2601.09195)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..errors import Problem
from ..markers import hookimpl
from ..options import NoOptions, option
from . import parameters
from .base import Controls, Method


@dataclass(frozen=True)
class ProFitOptions(NoOptions):
    threshold: float = parameters.threshold(0.1)
    side: str = option(
        "above", "Whether tokens 'above' or 'below' the threshold train.", choices=("above", "below"), shown=True
    )

    def problems(self) -> Iterator[Problem]:
        if self.threshold >= 1:
            yield Problem(
                "{threshold} is {value!r}, but for profit it is a probability: set it below 1, for example 0.1.",
                value=self.threshold,
            )


class ProFit(Method):
    """Every token with `p > threshold` under the current model; the loss is divided by all response tokens.

    The probability stands for how much of the meaning hangs on a token. `side: below` is the opposite half, a control:
    training on it alone collapses.
    """

    Options = ProFitOptions
    selects = True
    evidence = (
        "in a small testbed, better than plain fine-tuning at a new skill where most answers began with the same "
        "phrase, and not shown to be better with ten other kinds of data"
    )
    reference = "arXiv 2601.09195"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["log_prob"]

    def eligible(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        above: Tensor = signals["log_prob"] > math.log(self.options.threshold)
        return documents.response & (above if self.options.side == "above" else ~above)

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return self.eligible(signals, documents, progress).float()

    def controls(self, progress: Progress) -> Controls | None:
        return Controls(threshold=("threshold", "log_prob")) if self.options.side == "above" else None


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("profit", ProFit)
