"""History 'base', scored once for all cells that see the same batches: to the bit what 'base' scores each time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from sstoken_plugins import History, MicroBatch, Stored, TrainingRun, hookimpl, token_forward
from sstoken_plugins.histories.below_adapter import BaseHistory

HISTORY = "base_once"


class Once(BaseHistory):
    """The base model's log-probabilities of every batch, kept by the batch's content."""

    cpu_seconds: ClassVar[float] = 0.0
    """What scoring has cost since `start`: the cells that come first would pay for the others."""
    _known: ClassVar[dict[bytes, Tensor]] = {}
    _batches: ClassVar[Any] = None

    @classmethod
    def start(cls, batches: Any) -> None:
        """A cell begins: what is known is forgotten unless it sees the same batches as the one before."""
        if batches != cls._batches:
            cls._known = {}
        cls._batches, cls.cpu_seconds = batches, 0.0

    def attach(self, model: Any, run: TrainingRun) -> None:
        super().attach(model, run)
        self._model = model

    def stored(self, batch: MicroBatch) -> Stored:
        """Known from an earlier cell, or scored here and now: a study runs in one process, where no other waits."""
        key = batch.input_ids.cpu().numpy().tobytes()
        if key not in self._known:
            started = time.process_time()
            with self.active(self._model):
                forward = token_forward(self._model, batch.inputs, batch.documents, statistics={})
            self._known[key] = forward.log_probs
            Once.cpu_seconds += time.process_time() - started
        return Stored(self._known[key], n_missing=0)


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    register(HISTORY, Once)
