"""How tokens look to a reference model, beside the model in training or its history."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..markers import hookimpl
from ..measure import Column, Measurements
from .base import Signal


class ReferenceExcess(Signal):
    """`log q_reference - log p_current`: how much of what the reference knows of the token is still to be learned."""

    needs = frozenset({"log_probs", "reference"})
    column = Column(
        "still to learn",
        "log p(token) under the reference model, less that under the model now: Rho-1's excess loss.",
    )

    def __call__(self, measured: Measurements) -> Tensor:
        return measured["reference"] - measured.log_probs


class ReferenceGain(Signal):
    """`log q_reference - log q_history`: how much likelier the token is for the reference than for the start model."""

    needs = frozenset({"history", "reference"})
    column = Column(
        "gain of the reference",
        "log p(token) under the reference model, less that under the history model: TokenCleaning's score.",
    )

    def __call__(self, measured: Measurements) -> Tensor:
        return measured["reference"] - measured["history"]


class ReferenceRank(Signal):
    """The share of all stored tokens with a lower `reference_gain`, in [0, 1)."""

    needs = frozenset({"reference_rank"})
    column = Column(
        "rank in the data",
        "The share of all stored tokens for which the reference gained less on the history model.",
    )

    def __call__(self, measured: Measurements) -> Tensor:
        return measured["reference_rank"]


@hookimpl
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    register("reference_excess", ReferenceExcess)
    register("reference_gain", ReferenceGain)
    register("reference_rank", ReferenceRank)
