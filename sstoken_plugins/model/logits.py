"""The logits of a few tokens at a time, and what can be read from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor


class LogitsChunk:
    """The logits of a few tokens, for statistics of the distributions that predicted them. Each is computed once.

        log_softmax = logits.log_softmax(-1)
        log_probs   = log_softmax.gather(-1, targets[:, None])[:, 0]

    Attributes:
        targets: (N,) int64, the labels.
        argmax: (N,) int64, the most likely token.
        shifted: (N, V) float32, the logits less the largest of their row.
        chosen: (N,) float32, `shifted` at the labels.
    """

    def __init__(self, logits: Tensor, targets: Tensor) -> None:
        """Args:
        logits: (N, V) float32; overwritten. Every sweep over them counts: on a CPU one costs as much as the matmul.
        """
        self.targets = targets
        self._top, self.argmax = logits.max(-1)
        self.shifted = logits.sub_(self._top[:, None])
        self.chosen = self.shifted.gather(-1, targets[:, None])[:, 0]

    @cached_property
    def exponentials(self) -> Tensor:
        """(N, V) `exp(shifted)`: probabilities up to their sum `total`."""
        return self.shifted.exp()

    @cached_property
    def total(self) -> Tensor:
        """(N,) sum of `exponentials`."""
        return self.exponentials.sum(-1)

    @cached_property
    def log_total(self) -> Tensor:
        """(N,) `log(total)`."""
        return self.total.log()

    @property
    def log_probs(self) -> Tensor:
        """(N,) of the labels."""
        return self.chosen - self.log_total

    @property
    def log_z(self) -> Tensor:
        """(N,) logsumexp of the logits."""
        log_z: Tensor = self._top + self.log_total
        return log_z

    def only_log_probs(self) -> None:
        """Where nothing else is asked for, the exponentials take the place of the logits: `shifted` is gone."""
        self.total = self.shifted.exp_().sum(-1)
        del self.shifted


Statistic = Callable[[LogitsChunk], Tensor]
"""(N,) numbers, float32 or bool, from a chunk of N tokens."""


def entropy(chunk: LogitsChunk) -> Tensor:
    """Of the distribution, in nats: `-sum p log p`."""
    mean: Tensor = torch.linalg.vecdot(chunk.exponentials, chunk.shifted) / chunk.total
    return chunk.log_total - mean


def is_top1(chunk: LogitsChunk) -> Tensor:
    """Whether the label is the most likely token; of equally likely ones, the first."""
    return chunk.argmax == chunk.targets


STATISTICS: Mapping[str, Statistic] = MappingProxyType({"entropy": entropy, "is_top1": is_top1})
"""What trainers show of every pass."""
