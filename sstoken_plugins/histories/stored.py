"""What histories that read stored log-probabilities have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from ..store import resolution
from ..store.codec import SMALLEST_LOG_PROB
from .base import History

# What lookups add to a batch.
VALUES, N_MISSING = "sstoken_history_log_probs", "sstoken_missing"


class StoredHistory(History):
    """Where nothing is stored, the value is NaN: the token is compared with the current model, so rel is 0."""

    noise = 0.0
    """How much a log-probability depends on the batch that it is computed in, in nats."""

    def compare(self, history_log_probs: Tensor, log_probs: Tensor) -> Tensor:
        # Differences too small to be told from rounding are none. Before the first step all of them are, and min-max
        # would blow them up to the whole range of the score.
        difference = (history_log_probs - log_probs.clamp(min=SMALLEST_LOG_PROB)).abs()
        same = difference <= resolution(history_log_probs).clamp(min=self.noise)
        return torch.where(same | history_log_probs.isnan(), log_probs, history_log_probs)
