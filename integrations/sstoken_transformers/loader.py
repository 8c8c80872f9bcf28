"""What happens to a training batch in the data loader's workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from sstoken_plugins.data.index import ROWS
from sstoken_plugins.data.loading import Lookup


class CollatorWithLookup:
    """The framework's collator, followed by a history's lookup. Can be pickled if the collator can."""

    def __init__(self, collator: Callable[[Any], Any], lookup: Lookup) -> None:
        self._collator = collator
        self._lookup = lookup

    def __call__(self, features: Any) -> Any:
        pictures = row_hashes(features)
        batch = self._collator(features)
        if pictures is not None:
            batch[ROWS] = pictures
        self._lookup(batch)
        return batch


def row_hashes(features: Sequence[Any]) -> torch.Tensor | None:
    """(B,) int64 hashes of the pictures of each sample; None if no sample has any."""
    if not any(isinstance(each, Mapping) and ("image" in each or "images" in each) for each in features):
        return None
    return torch.tensor([_hash(each.get("images", each.get("image"))) for each in features], dtype=torch.int64)


def _hash(pictures: Any) -> int:
    digest = hashlib.sha256()
    for each in pictures if isinstance(pictures, list | tuple) else [pictures]:
        if hasattr(each, "tobytes"):  # PIL, NumPy
            about = (getattr(each, "size", None), getattr(each, "mode", None), getattr(each, "shape", None))
            digest.update(repr(about).encode() + each.tobytes())
        else:
            digest.update(repr(each).encode())
    return int.from_bytes(digest.digest()[:8], "big", signed=True)
