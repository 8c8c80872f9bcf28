"""What the model itself said of a sample when it last saw it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..config import SSTokenConfig
from ..documents import Documents
from ..store import BatchIndex, MemoryStore, stored_bytes
from ..transfer import to_host
from . import TrainingRun
from .base import BaseHistory
from .stored import StoredHistory, needs_rel_alone


class LastVisitHistory(StoredHistory):
    """The model when it last saw the same sample: an epoch ago. No forward pass, 2.25 bytes of memory a token.

    In the first epoch there is nothing to compare with: the score is the attention alone, or `first_visit: base`.
    """

    def __init__(self, config: SSTokenConfig) -> None:
        super().__init__(config)
        self.requires_adapter = config.first_visit == "base"
        if config.first_visit == "attention" and needs_rel_alone(config):
            raise ValueError(
                "`history` is 'last_visit' and `first_visit` is 'attention', but the tokens are chosen by the excess "
                "loss alone, and a sample that is seen for the first time has none: set `first_visit` to 'base', or "
                "`gamma` below 1."
            )
        self._store = MemoryStore()
        self._first = BaseHistory(config) if config.first_visit == "base" else None
        self._seen: list[tuple[BatchIndex, Tensor, Callable[[], None]]] = []

    def attach(self, model: nn.Module, run: TrainingRun) -> None:
        self._run = run
        if self._first is not None:
            self._first.attach(model, run)

    def log_probs(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, score: Callable[[], Tensor]
    ) -> Tensor:
        index = BatchIndex.of(inputs)
        values, n_missing = self._store.get(index)
        stored = index.scatter(values).to(documents.ids.device, non_blocking=True)
        missing = documents.response & stored.isnan()
        self._run.record("history_missing", missing.sum(), documents.response.sum())
        if self._first is None or not n_missing:
            return stored
        return torch.where(missing, self._first.log_probs(model, inputs, documents, score), stored)

    def remember(self, inputs: Mapping[str, Any], log_probs: Tensor) -> None:
        self._seen.append((BatchIndex.of(inputs), *to_host(log_probs)))

    def step_end(self, model: nn.Module, step: int, epoch: float | None) -> None:
        """Stores what the step has seen: so what is looked up does not depend on how a step is cut into batches."""
        mine = []
        for index, log_probs, wait in self._seen:
            wait()
            mine.append((index.keys, index.lengths, index.gather(log_probs)))
        self._seen.clear()
        for batches in self._run.gather(mine):
            for keys, lengths, log_probs in batches:
                self._store.put(keys, lengths, log_probs)

    def memory(self, n_documents: int, n_response: int) -> Mapping[str, int]:
        return {"host": stored_bytes(n_documents, n_response)}

    def state_dict(self) -> dict[str, Tensor]:
        return self._store.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._store.load_state_dict(state)
