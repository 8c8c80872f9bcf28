"""History 'base', scored once for all cells that see the same batches: to the bit what 'base' scores each time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from sstoken_plugins import Documents, hookimpl
from sstoken_plugins.histories.base import BaseHistory

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

    def log_probs(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, score: Callable[[], Tensor]
    ) -> Tensor:
        key = inputs["input_ids"].cpu().numpy().tobytes()
        if key not in self._known:
            started = time.process_time()
            self._known[key] = super().log_probs(model, inputs, documents, score)
            Once.cpu_seconds += time.process_time() - started
        return self._known[key]


@hookimpl
def register_histories(register: Any) -> None:
    register(HISTORY, Once)
