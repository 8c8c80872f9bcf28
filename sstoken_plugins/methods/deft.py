"""DEFT: DFT with an exponent that follows how concentrated the prediction is (arXiv 2602.11424)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from .base import Method


class DEFT(Method):
    """Weight `p ** a` with `a = sum_v p(v) ** 2` under the current model, both without gradient.

        loss = sum((1 - p ** a) / a) / n

    Near the plain log-likelihood where the model is undecided (`a` near 0), near DFT where it is sure (`a` near 1).
    """

    reference = "arXiv 2602.11424"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["log_prob", "squared_probs"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return (signals["squared_probs"] * signals["log_prob"]).exp()


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("deft", DEFT)
