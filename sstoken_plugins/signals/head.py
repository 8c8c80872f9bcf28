"""Measurements that methods read as they are."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..markers import hookimpl
from ..measure import Measurements
from .base import Signal


class TopEntropy(Signal):
    """Entropy of the `top_k` likeliest tokens, in nats."""

    needs = frozenset({"top_entropy"})

    def __call__(self, measured: Measurements) -> Tensor:
        return measured["top_entropy"]


class SquaredProbs(Signal):
    """`sum p^2` over the vocabulary, in (0, 1]: how concentrated the distribution is."""

    needs = frozenset({"squared_probs"})

    def __call__(self, measured: Measurements) -> Tensor:
        return measured["squared_probs"]


class HistoryMass(Signal):
    """How much of the history's probability is not above the label, in [0, 1]: 1 for its likeliest token."""

    needs = frozenset({"history_mass"})

    def __call__(self, measured: Measurements) -> Tensor:
        return measured["history_mass"]


@hookimpl
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    register("top_entropy", TopEntropy)
    register("squared_probs", SquaredProbs)
    register("history_mass", HistoryMass)
