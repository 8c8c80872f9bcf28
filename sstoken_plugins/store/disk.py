"""A store in a folder: written once, memory-mapped, and never silently wrong.

Files appear whole or not at all and are never changed, so any number of writers and readers can share a folder. If a
writer is interrupted, the next one resumes where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import BatchIndex
from .codec import decode, encode
from .files import Shard, StoreError, is_store, read_manifest, read_shard, write_manifest, write_shard

# What a killed writer loses at most.
FLUSH_BYTES, FLUSH_SECONDS = 1 << 26, 120.0


class DiskStore:
    """Log-probabilities of documents by the content of those documents.

    Args:
        folder: where it is, or will be once something is added.
        verify: read every file and compare it with its checksum.

    Raises:
        StoreError: if something is there that is no sound store; the message says what and what to do.
    """

    def __init__(self, folder: Path, verify: bool = True) -> None:
        self.folder = folder
        self.made_by: dict[str, Any] | None = None
        self.measured_noise = 0.0
        self._shards: list[Shard] = []
        self._sort()
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []
        self._pending_keys: set[int] = set()
        self._pending_bytes, self._pending_since = 0, 0.0
        if self.exists:
            self._open(verify)

    def __reduce__(self) -> tuple[Any, ...]:
        """Data loader workers that are not forked get the place, not the memory map."""
        return DiskStore, (self.folder, False)

    @property
    def exists(self) -> bool:
        return is_store(self.folder)

    def __len__(self) -> int:
        return len(set(self._keys.tolist())) + len(self._pending_keys)

    @property
    def noise(self) -> float:
        """How much a log-probability differs when the same document is scored in another batch, in nats."""
        return max([self.measured_noise, *(shard.noise for shard in self._shards)])

    def require(self, made_by: Mapping[str, Any]) -> None:
        """Raises:
        StoreError: if the store was made by something else; says by what.
        """
        assert self.made_by is not None
        for name, value in made_by.items():
            was = self.made_by.get(name)
            if isinstance(value, Mapping) and isinstance(was, Mapping):
                # Another version of a library may know entries that this one does not.
                of = f"{name} ({{}})"
                others = [
                    (of.format(key), was[key], value[key]) for key in value if was.get(key, value[key]) != value[key]
                ]
            else:
                others = [] if was == value else [(name, was, value)]
            for what, theirs, ours in others[:1]:
                raise StoreError(
                    f"The store {self.folder} was made with another {what}: {theirs!r}, where this run has {ours!r}. "
                    "Its log-probabilities mean nothing here. Record into another folder, or train with what the "
                    "store was made with."
                )

    # Reading

    @property
    def documents(self) -> tuple[Tensor, Tensor]:
        """Keys and numbers of response tokens of what is on disk: (D,) int64 each, every document once."""
        first = torch.ones_like(self._keys, dtype=torch.bool)
        first[1:] = self._keys[1:] != self._keys[:-1]
        return self._keys[first], self._lengths[first]

    def get(self, index: BatchIndex) -> tuple[Tensor, int]:
        """(T,) float32 log-probabilities of a batch, MISSING where there are none, and the documents without."""
        place, found = self._find(index.keys, index.lengths)
        place, lengths = place[found], index.lengths[found]
        shards, starts = self._shard_of[place], self._starts[place]
        values = torch.empty(int(lengths.sum()))
        for number in set(shards.tolist()):
            here = shards == number
            tokens = here.repeat_interleave(lengths)
            values[tokens] = decode(self._shards[number].blocks, starts[here], lengths[here])
        return index.fill(values, found), len(index) - int(found.sum())

    def lacks(self, index: BatchIndex) -> Tensor:
        """(D,) bool: the documents that are neither stored nor about to be; of equal ones, the first."""
        _, found = self._find(index.keys, index.lengths)
        seen = set(self._pending_keys)
        lacking = []
        for key, known in zip(index.keys.tolist(), found.tolist(), strict=True):
            lacking.append(not known and key not in seen)
            seen.add(key)
        return torch.tensor(lacking, dtype=torch.bool)

    def _find(self, keys: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if len(self._keys) == 0:
            return torch.zeros_like(keys), torch.zeros_like(keys, dtype=torch.bool)
        place = torch.searchsorted(self._keys, keys).clamp(max=len(self._keys) - 1)
        return place, (self._keys[place] == keys) & (self._lengths[place] == lengths)

    # Writing

    def create(self, made_by: Mapping[str, Any]) -> None:
        """Makes the folder, or joins whoever makes the same at this moment.

        Raises:
            StoreError: if the folder cannot be made, or another model's store appears there meanwhile.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.folder} cannot be made ({error.strerror}): nothing was recorded. Give another path."
            ) from error
        write_manifest(self.folder, made_by)
        self._open(verify=True)
        self.require(made_by)

    def add(self, keys: Tensor, lengths: Tensor, log_probs: Tensor) -> None:
        """Adds documents; they are on disk after the next `flush`, which comes by itself from time to time."""
        if not self._pending:
            self._pending_since = time.monotonic()
        blocks = encode(log_probs, lengths)
        self._pending.append((keys, lengths, blocks))
        self._pending_keys.update(keys.tolist())
        self._pending_bytes += len(blocks)
        if self._pending_bytes >= FLUSH_BYTES or time.monotonic() - self._pending_since >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what was added.

        Raises:
            OSError: if it cannot be written; the store stays as it was.
        """
        if not self._pending:
            return
        keys, lengths, blocks = (torch.cat(parts) for parts in zip(*self._pending, strict=True))
        assert self.made_by is not None
        path = write_shard(self.folder, self.made_by, keys, lengths, blocks, self.measured_noise)
        self._pending, self._pending_bytes = [], 0
        self._pending_keys.clear()
        self._shards.append(read_shard(path, self.made_by, verify=False))
        self._sort()

    def refresh(self) -> None:
        """Takes in what other processes wrote meanwhile.

        Raises:
            StoreError: if that is damaged.
        """
        if self.exists:
            self._open(verify=True)

    # Files

    def _open(self, verify: bool) -> None:
        made_by = self.made_by = read_manifest(self.folder)
        known = {shard.path: shard for shard in self._shards}
        paths = sorted(self.folder.glob("*.safetensors"))
        self._shards = [known.get(path) or read_shard(path, made_by, verify) for path in paths]
        self._sort()

    def _sort(self) -> None:
        shards = self._shards
        empty = torch.empty(0, dtype=torch.int64)
        keys = torch.cat([shard.keys for shard in shards] or [empty])
        self._keys, order = keys.sort(stable=True)
        self._starts = torch.cat([shard.starts for shard in shards] or [empty])[order]
        self._lengths = torch.cat([shard.lengths for shard in shards] or [empty])[order]
        counts = torch.tensor([len(shard.keys) for shard in shards], dtype=torch.int64)
        self._shard_of = torch.arange(len(shards)).repeat_interleave(counts)[order]
