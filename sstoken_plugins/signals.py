"""The built-in signals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from .config import SSTokenConfig
from .hashing import mix, mix_int, total_per_document
from .hookspecs import hookimpl
from .scores import retrospective_excess_loss
from .selection import TokenScores


class Signal(ABC):
    """A number for every token. What it needs beyond the training pass itself is computed only if a strategy reads it.

    Attributes:
        needs: of "history" (one more forward pass), "attention" (one more attention call in one layer), and
            "unprompted" (one more forward pass, over the responses; with "history").
        reads_scores: whether it reads anything that the model says of the tokens. If so, a model with dropout is
            scored once more without.
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
        token = mix(scores.input_ids + mix(documents.positions + mix_int(self.config.seed)))
        document = documents.spread(total_per_document(token, documents))
        hashed = mix(mix(token + document) + mix_int(scores.step))
        return (hashed & ((1 << 24) - 1)).float() / (1 << 24)


@hookimpl
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    register("rel", RetrospectiveExcessLoss)
    register("attention", AttentionToPrompt)
    register("loss", Loss)
    register("entropy", Entropy)
    register("noise", Noise)
