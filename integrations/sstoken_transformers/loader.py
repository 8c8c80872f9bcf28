"""What happens to a training batch in the data loader's workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from sstoken_plugins.data.index import ROWS
from sstoken_plugins.data.loading import Lookup

CHATS = ("messages", "conversations", "prompt", "completion")
SOURCES = ("image", "path", "url", "base64")
"""Where a picture among a chat's words is, for transformers' chat templates."""


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
    found = [list(pictures_of(each)) if isinstance(each, Mapping) else [] for each in features]
    if not any(found):
        return None
    return torch.tensor([_hash(pictures) for pictures in found], dtype=torch.int64)


def pictures_of(row: Mapping[str, Any]) -> Iterator[Any]:
    """Of a sample that is not tokenised yet: those in columns of their own, and those among a chat's words."""
    beside = row.get("images", row.get("image"))
    yield from beside if isinstance(beside, list | tuple) else [beside] if beside is not None else []
    for part in media_of(row):
        if part["type"] == "image":
            yield from (part[name] for name in SOURCES if part.get(name) is not None)


def media_of(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of a chat that are no words."""
    for column in CHATS:
        for message in row.get(column) or ():
            content = message.get("content") if isinstance(message, Mapping) else None
            for part in content if isinstance(content, list) else ():
                if isinstance(part, Mapping) and part.get("type") not in (None, "text"):
                    yield part


def _hash(pictures: Sequence[Any]) -> int:
    digest = hashlib.sha256()
    for each in pictures:
        if hasattr(each, "tobytes"):  # PIL, NumPy
            about = (getattr(each, "size", None), getattr(each, "mode", None), getattr(each, "shape", None))
            digest.update(repr(about).encode() + each.tobytes())
        else:
            digest.update(repr(each).encode())
    return int.from_bytes(digest.digest()[:8], "big", signed=True)
