"""What the data loader does to a training batch, on the host, so that a step need not ask the device."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from .index import INDEX, BatchIndex

Lookup = Callable[[MutableMapping[str, Any]], None]
"""Adds entries to a training batch, on the host. Their names begin with `sstoken_`."""


class BatchLookup:
    """Adds where the response tokens are, and then what the history adds. Can be pickled if that can."""

    def __init__(self, history: Lookup | None) -> None:
        self._history = history

    def __call__(self, batch: MutableMapping[str, Any]) -> None:
        batch[INDEX] = BatchIndex.of(batch)
        if self._history is not None:
            self._history(batch)
