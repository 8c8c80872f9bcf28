"""The built-in signals that take a line each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..data.hashing import mix, mix_int, total_per_document
from ..markers import hookimpl
from ..measure import Column, Measurements
from ..options import NoOptions, option
from .base import Signal


def retrospective_excess_loss(log_probs: Tensor, history_log_probs: Tensor) -> Tensor:
    """`rel = L_history - L_current = log p_current - log p_history` (ssToken, eq. 3), elementwise.

    High where the model has begun to learn the token since the history model. (Rho-1's excess loss runs the other way
    and needs an outside reference model.)
    """
    return log_probs - history_log_probs


class RetrospectiveExcessLoss(Signal):
    """`rel = log p_current - log p_history`."""

    needs = frozenset({"log_probs", "history"})
    column = Column(
        "REL",
        "log p(token) under the model now, less that under its history: how much of the token has been learned since.",
    )
    zero_without_history = True

    def __call__(self, measured: Measurements) -> Tensor:
        return retrospective_excess_loss(measured.log_probs, measured["history"])


class AttentionToPrompt(Signal):
    """Mass of the token's attention on its document's prompt, mean over the heads of one layer."""

    needs = frozenset({"attention"})

    def __call__(self, measured: Measurements) -> Tensor:
        return measured["attention"]


class Loss(Signal):
    """`-log p_current`."""

    def __call__(self, measured: Measurements) -> Tensor:
        return -measured.log_probs


class LogProb(Signal):
    """`log p_current`."""

    def __call__(self, measured: Measurements) -> Tensor:
        return measured.log_probs


class HistoryLogProb(Signal):
    """`log p_history`."""

    needs = frozenset({"log_probs", "history"})

    def __call__(self, measured: Measurements) -> Tensor:
        return measured["history"]


class Entropy(Signal):
    """Of the distribution that predicted the token, in nats."""

    needs = frozenset({"entropy"})

    def __call__(self, measured: Measurements) -> Tensor:
        return measured["entropy"]


class Plausibility(Signal):
    """`log p_current - log(1 / V)`: how much more likely than a uniform guess over the vocabulary, in nats."""

    def __call__(self, measured: Measurements) -> Tensor:
        return measured.log_probs + math.log(measured.vocabulary)


class HistoryPlausibility(Signal):
    """`log p_history - log(1 / V)`, the same of the history model."""

    needs = frozenset({"log_probs", "history"})

    def __call__(self, measured: Measurements) -> Tensor:
        return measured["history"] + math.log(measured.vocabulary)


@dataclass(frozen=True)
class NoiseOptions(NoOptions):
    seed: int = option(0, "Seed of random selection.")


class Noise(Signal):
    """Uniform in [0, 1): a hash of seed, step, and the document up to and including the token.

    A generator would give other numbers for another batch size, packing or number of processes, and would have to be
    saved for resuming. A hash does neither.
    """

    Options = NoiseOptions
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, measured: Measurements) -> Tensor:
        documents = measured.documents
        token = mix(measured.input_ids + mix(documents.positions + mix_int(self.options.seed)))
        document = documents.broadcast(total_per_document(token, documents))
        hashed = mix(mix(token + document) + mix_int(measured.progress.step))
        return (hashed & ((1 << 24) - 1)).float() / (1 << 24)


@hookimpl
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    register("rel", RetrospectiveExcessLoss)
    register("attention", AttentionToPrompt)
    register("loss", Loss)
    register("log_prob", LogProb)
    register("history_log_prob", HistoryLogProb)
    register("entropy", Entropy)
    register("plausibility", Plausibility)
    register("history_plausibility", HistoryPlausibility)
    register("noise", Noise)
