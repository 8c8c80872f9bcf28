"""What the data loader does to a training batch, on the host, so that a step need not ask the device."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from .checks import check_form, check_values
from .index import INDEX, BatchIndex

Lookup = Callable[[MutableMapping[str, Any]], None]
"""Adds entries to a training batch, on the host. Their names begin with `sstoken_`."""


class BatchLookup:
    """Adds where the response tokens are, and then what others add. Can be pickled if they can.

    Args:
        vocabulary: how many tokens the model knows; 0 where nobody knows the model yet.

    Raises:
        Refused: when called with a batch that the model cannot be given.
    """

    def __init__(self, vocabulary: int, *others: Lookup | None) -> None:
        self._vocabulary = vocabulary
        self._others = [each for each in others if each is not None]

    def __call__(self, batch: MutableMapping[str, Any]) -> None:
        check_form(batch)
        if self._vocabulary:
            check_values(batch, self._vocabulary)
        batch[INDEX] = BatchIndex.of(batch)
        for each in self._others:
            each(batch)
