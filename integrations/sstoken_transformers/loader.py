"""What happens to a training batch in the data loader's workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sstoken_plugins.data.loading import Lookup


class CollatorWithLookup:
    """The framework's collator, followed by a history's lookup. Can be pickled if the collator can."""

    def __init__(self, collator: Callable[[Any], Any], lookup: Lookup) -> None:
        self._collator = collator
        self._lookup = lookup

    def __call__(self, features: Any) -> Any:
        batch = self._collator(features)
        self._lookup(batch)
        return batch
