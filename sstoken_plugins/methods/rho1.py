"""Rho-1: what a reference model knows and the model in training does not know yet (arXiv 2404.07965)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from .base import Method
from .ranked import RankedMethod


class Rho1(RankedMethod):
    """The rho best of every document by `log q_reference - log p_current`, scored again at every step.

        loss = sum over the kept tokens of -log p / number of kept tokens

    For noisy data and a reference that was trained on clean data of the same kind: tokens that the reference finds
    likely and the model does not are worth learning; tokens that neither can predict are not. The authors train from
    raw web text, and rank over a batch; here each document is ranked on its own, so that the batch size and packing
    change nothing. They keep 0.6 with 1B parameters and 0.7 with 7B.
    """

    evidence = (
        "in a small testbed, with a reference made of a few right samples, better than plain fine-tuning at a new "
        "skill where answers were cut off, had wrong letters or followed a wrong rule, never shown to be worse, and "
        "without the loss of old skills that training on these samples alone had"
    )
    reference = "arXiv 2404.07965"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["reference_excess"]

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return signals["reference_excess"]


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("rho1", Rho1)
