"""What histories that read stored log-probabilities have in common."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor

from ..data import BatchIndex
from ..store import DiskStore, resolution
from ..store.codec import SMALLEST_LOG_PROB
from .base import History

# What lookups add to a batch.
VALUES, N_MISSING = "sstoken_history_log_probs", "sstoken_missing"


class StoreLookup:
    """Adds to a batch what a store knows of it. Runs in the data loader's workers.

    Args:
        values, n_missing: names of the entries: (B, S) log-probabilities, and how many documents have none.
    """

    def __init__(self, store: DiskStore, values: str = VALUES, n_missing: str = N_MISSING) -> None:
        self._store = store
        self._names = values, n_missing

    def __call__(self, batch: MutableMapping[str, Any]) -> None:
        index = BatchIndex.of(batch)
        values, n_missing = self._store.get(index)
        for name, value in zip(self._names, (index.scatter(values), n_missing), strict=True):
            batch[name] = value


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
