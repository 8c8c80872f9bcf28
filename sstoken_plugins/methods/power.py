"""The power family: from plain fine-tuning to DFT and beyond (arXiv 2510.00526)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions
from . import parameters
from .base import Method


@dataclass(frozen=True)
class PowerOptions(NoOptions):
    alpha: float = parameters.alpha(1.0)


class Power(Method):
    """Weight `p ** alpha` under the current model, without gradient.

        loss = sum((1 - p ** alpha) / alpha) / n

    `alpha` 0 is the plain log-likelihood and 1 is DFT. Larger values trust the model more: for a base model that is
    strong on the task. Where it is weak, such as on new knowledge, go towards 0.
    """

    Options = PowerOptions
    reference = "arXiv 2510.00526"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["log_prob"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        weights: Tensor = (self.options.alpha * signals["log_prob"]).exp()
        return weights


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("power", Power)
