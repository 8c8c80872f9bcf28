"""A store in memory that learns while it is read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..data import BatchIndex
from ..errors import refused
from .codec import block_sizes, decode, encode


class MemoryStore:
    """The latest log-probabilities of each document, at 2.25 bytes a token."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[int, int]] = {}  # key -> start of its block, response tokens
        self._blocks = torch.empty(1 << 16, dtype=torch.uint8)
        self._used = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, keys: Tensor, lengths: Tensor, log_probs: Tensor) -> None:
        """Remembers documents, in place of what was known of them."""
        self._put(keys, lengths, encode(log_probs, lengths))

    def get(self, index: BatchIndex) -> tuple[Tensor, int]:
        """(T,) float32 log-probabilities of a batch, MISSING where there are none, and the documents without."""
        wanted = zip(index.keys.tolist(), index.lengths.tolist(), strict=True)
        entries = [self._entries.get(key, (0, -1)) for key, _ in wanted]
        starts, known = torch.tensor(entries, dtype=torch.int64).view(-1, 2).unbind(1)
        found = known == index.lengths
        values = decode(self._blocks, starts[found], index.lengths[found])
        return index.fill(values, found), len(index) - int(found.sum())

    def state_dict(self) -> dict[str, Tensor]:
        keys = torch.tensor(list(self._entries), dtype=torch.int64)
        starts, lengths = torch.tensor(list(self._entries.values()), dtype=torch.int64).view(-1, 2).unbind(1)
        sizes = block_sizes(lengths)
        within = torch.arange(int(sizes.sum())) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        return {
            "keys": keys,
            "lengths": lengths.int(),
            "blocks": self._blocks[starts.repeat_interleave(sizes) + within],
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises:
        Refused: if they are not the tensors of a store, or do not fit together.
        """
        keys, lengths, blocks = (state.get(name) for name in ("keys", "lengths", "blocks"))
        if keys is None or lengths is None or blocks is None:
            raise refused(
                "The checkpoint holds no log-probabilities of earlier visits: resume from another checkpoint."
            )
        whole = keys.dtype == torch.int64 and lengths.dtype == torch.int32 and blocks.dtype == torch.uint8
        lengths = lengths.long()
        if not whole or keys.dim() != 1 or keys.shape != lengths.shape or bool((lengths < 1).any()) or (
            blocks.shape != (int(block_sizes(lengths).sum()),)
        ):  # fmt: skip
            raise refused(
                "The checkpoint's log-probabilities of earlier visits have {n} documents, {lengths} lengths and "
                "{bytes} bytes, which do not fit together: resume from another checkpoint.",
                n=keys.numel(),
                lengths=lengths.numel(),
                bytes=blocks.numel(),
            )
        self._entries, self._used = {}, 0
        self._put(keys, lengths, blocks)

    def _put(self, keys: Tensor, lengths: Tensor, blocks: Tensor) -> None:
        begin = 0
        for key, length, size in zip(keys.tolist(), lengths.tolist(), block_sizes(lengths).tolist(), strict=True):
            start, known = self._entries.get(key, (0, -1))
            if known != length:
                start = self._grow(size)
                self._entries[key] = (start, length)
            self._blocks[start : start + size] = blocks[begin : begin + size]
            begin += size

    def _grow(self, size: int) -> int:
        start, self._used = self._used, self._used + size
        if self._used > len(self._blocks):
            larger = torch.empty(max(2 * len(self._blocks), self._used), dtype=torch.uint8)
            larger[:start] = self._blocks[:start]
            self._blocks = larger
        return start
