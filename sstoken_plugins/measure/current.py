"""What the training pass tells by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..markers import hookimpl
from ..model.logits import LogitsChunk, entropy, is_top1
from .base import Column, HeadStatistic, Measurement


class LogProbs(HeadStatistic):
    """`log p(token | tokens before)` under the current model, in nats. Every pass gives it."""

    cost = ""  # every pass gives it
    column = Column(
        "log-prob now",
        "The log-probability of the token under the model now, in nats.",
        name="log_prob",
        log_probability=True,
    )

    def of(self, chunk: LogitsChunk) -> Tensor:
        return chunk.log_probs


class Entropy(HeadStatistic):
    """`-sum p log p` of the distribution that predicted the token, in nats."""

    cost = ""  # every pass gives it
    column = Column("entropy", "How undecided the model was before the token, in nats.")

    def of(self, chunk: LogitsChunk) -> Tensor:
        return entropy(chunk)


class IsTop1(HeadStatistic):
    """Whether the label is the most likely token."""

    cost = ""  # every pass gives it

    def of(self, chunk: LogitsChunk) -> Tensor:
        return is_top1(chunk)


class SquaredProbs(HeadStatistic):
    """`sum p^2` over the vocabulary: the chance that two draws agree."""

    def of(self, chunk: LogitsChunk) -> Tensor:
        return chunk.exponentials.square().sum(-1) / chunk.total.square()


class MassNotAbove(HeadStatistic):
    """`sum p(v) over all v with p(v) <= p(label)`: the probability of everything that is not above the label."""

    def of(self, chunk: LogitsChunk) -> Tensor:
        below = chunk.shifted <= chunk.chosen[:, None]
        return torch.where(below, chunk.exponentials, 0).sum(-1) / chunk.total


@hookimpl
def register_measurements(register: Callable[[str, type[Measurement]], None]) -> None:
    register("log_probs", LogProbs)
    register("entropy", Entropy)
    register("is_top1", IsTop1)
    register("squared_probs", SquaredProbs)
    register("mass_not_above", MassNotAbove)
