"""The built-in signals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from .config import SSTokenConfig
from .hookspecs import hookimpl
from .scores import retrospective_excess_loss
from .selection import TokenScores


class Signal(ABC):
    """A number for every token. What it needs beyond the training pass itself is computed only if a strategy reads it.

    Attributes:
        needs: of "history" (one more forward pass) and "attention" (one more attention call in one layer).
        reads_scores: whether it reads anything that the model says of the tokens. If so, a model with dropout is
        scored
            once more without.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    reads_scores: ClassVar[bool] = True

    def __init__(self, config: SSTokenConfig) -> None:
        self.config = config

    @abstractmethod
    def __call__(self, scores: TokenScores) -> Tensor:
        """(B, S) float; values off the response are ignored."""


class RetrospectiveExcessLoss(Signal):
    """`rel = log p_current - log p_history`."""

    needs = frozenset({"history"})

    def __call__(self, scores: TokenScores) -> Tensor:
        assert scores.history_log_probs is not None  # granted by `needs`
        return retrospective_excess_loss(scores.log_probs, scores.history_log_probs)


class AttentionToPrompt(Signal):
    """Mass of the token's attention on its document's prompt, mean over the heads of one layer."""

    needs = frozenset({"attention"})

    def __call__(self, scores: TokenScores) -> Tensor:
        assert scores.attention is not None  # granted by `needs`
        return scores.attention


class Loss(Signal):
    """`-log p_current`."""

    def __call__(self, scores: TokenScores) -> Tensor:
        return -scores.log_probs


class Entropy(Signal):
    """Of the distribution that predicted the token, in nats."""

    def __call__(self, scores: TokenScores) -> Tensor:
        return scores.entropy


class Noise(Signal):
    """Uniform in [0, 1): a hash of seed, step, and the document up to and including the token.

    A generator would give other numbers for another batch size, packing or number of processes, and would have to be
    saved for resuming. A hash does neither.
    """

    reads_scores = False

    def __call__(self, scores: TokenScores) -> Tensor:
        documents = scores.documents
        token = _mix(scores.input_ids + _mix(documents.positions + _mix_int(self.config.seed)))
        real = documents.ids >= 0
        document = (
            torch.zeros_like(token)
            .flatten()
            .index_add_(0, documents.ids.clamp(min=0).flatten(), torch.where(real, token, 0).flatten())
        )
        hashed = _mix(_mix(token + documents.spread(document)) + _mix_int(scores.step))
        return (hashed & ((1 << 24) - 1)).float() / (1 << 24)


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser; int64 arithmetic wraps around on every device."""
    x = (x ^ (x >> 30)) * -4658895280553007687
    x = (x ^ (x >> 27)) * -7723592293110705685
    return x ^ (x >> 31)


def _mix_int(x: int) -> int:
    return int(_mix(torch.tensor(x + 0x1E3779B97F4A7C15)).item())


@hookimpl
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    register("rel", RetrospectiveExcessLoss)
    register("attention", AttentionToPrompt)
    register("loss", Loss)
    register("entropy", Entropy)
    register("noise", Noise)
