"""A store in a folder: written once, memory-mapped, and never silently wrong.

    store/
      store.json              what made it, with a checksum of its own
      <sha256>.safetensors    some of the documents; named by the hash of what is in it

Files appear whole or not at all and are never changed, so any number of writers and readers can share a folder, and a
writer that was killed goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import BatchIndex
from .codec import block_sizes, decode, encode

FORMAT = 2
MANIFEST = "store.json"
UNFINISHED = ".unfinished-"
# What a killed writer loses at most.
FLUSH_BYTES, FLUSH_SECONDS = 1 << 26, 120.0
_STALE_SECONDS = 24 * 3600.0


class StoreError(ValueError):
    """The folder is no store, is damaged, or was made by another model."""


@dataclass(frozen=True)
class _Shard:
    path: Path
    keys: Tensor
    starts: Tensor
    lengths: Tensor
    blocks: Tensor
    noise: float


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
        self._shards: list[_Shard] = []
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
        if self.folder.is_dir():
            ours = (MANIFEST, UNFINISHED)
            others = [path.name for path in self.folder.iterdir() if not path.name.startswith(ours)]
            if others and not (self.folder / MANIFEST).exists():
                raise StoreError(
                    f"{self.folder} has no {MANIFEST}, but other files such as {sorted(others)[0]!r}: it is no store, "
                    "or its head was lost. Nothing was changed. Give a folder that does not exist yet."
                )
        elif self.folder.exists():
            raise StoreError(f"{self.folder} is a file, not the folder of a store. Give another path.")
        return (self.folder / MANIFEST).exists()

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
            if self.made_by.get(name) != value:
                raise StoreError(
                    f"The store {self.folder} was made with another {name}: {self.made_by.get(name)!r}, where this "
                    f"run has {value!r}. Its log-probabilities mean nothing here. Record into another folder, or "
                    "train with what the store was made with."
                )

    # Reading

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
            StoreError: if another model's store appears there meanwhile.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        body = {"format": FORMAT, "made_by": dict(made_by)}
        text = json.dumps({**body, "sha256": _digest(body)}, indent=2) + "\n"
        with self._unfinished() as path:
            path.write_text(text, encoding="utf-8")
            try:
                os.link(path, self.folder / MANIFEST)  # unlike a rename, never replaces what another writer made
            except OSError:  # there already, or a file system without links, such as a mounted cloud drive
                if not (self.folder / MANIFEST).exists():
                    os.replace(path, self.folder / MANIFEST)
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
        from safetensors.torch import save

        if not self._pending:
            return
        keys, lengths, blocks = (torch.cat(parts) for parts in zip(*self._pending, strict=True))
        assert self.made_by is not None
        metadata = {"format": str(FORMAT), "made_by": _digest(self.made_by), "noise": repr(self.measured_noise)}
        content = save({"keys": keys, "lengths": lengths.int(), "blocks": blocks}, metadata)
        final = self.folder / f"{hashlib.sha256(content).hexdigest()}.safetensors"
        try:
            with self._unfinished() as path:
                with path.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(path, final)
        except OSError as error:
            full = error.errno == errno.ENOSPC
            raise OSError(
                error.errno,
                f"{len(content) / 1e6:.1f} MB of log-probabilities could not be written to {self.folder} "
                f"({'the disk is full' if full else error.strerror}). What was recorded before is safe: "
                + ("make room" if full else "mend the cause")
                + " and start again, recording goes on where it stopped.",
            ) from error
        self._pending, self._pending_bytes = [], 0
        self._pending_keys.clear()
        self._shards.append(self._read(final, verify=False))
        self._sort()

    def refresh(self) -> None:
        """Takes in what other processes wrote meanwhile."""
        if self.exists:
            self._open(verify=False)

    # Files

    def _open(self, verify: bool) -> None:
        self.made_by = self._read_manifest()
        known = {shard.path: shard for shard in self._shards}
        paths = sorted(self.folder.glob("*.safetensors"))
        self._shards = [known.get(path) or self._read(path, verify) for path in paths]
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

    def _read_manifest(self) -> dict[str, Any]:
        path = self.folder / MANIFEST
        lost = "its recordings cannot be told from another model's any more. Record into another folder."
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            body = {name: value for name, value in content.items() if name != "sha256"}
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror}).") from error
        except (ValueError, AttributeError) as error:
            raise StoreError(f"{path} is damaged ({error}): {lost}") from error
        if content.get("format") not in (None, FORMAT):
            raise StoreError(
                f"{path} has format {content['format']!r}; this version of sstoken-plugins reads format {FORMAT}. "
                "Upgrade sstoken-plugins, or record into another folder."
            )
        if content.get("sha256") != _digest(body) or not isinstance(body.get("made_by"), dict):
            raise StoreError(f"{path} is damaged (its checksum is wrong): {lost}")
        made_by: dict[str, Any] = body["made_by"]
        return made_by

    def _read(self, path: Path, verify: bool) -> _Shard:
        from safetensors import safe_open

        again = f"Delete {path.name} and record again: what is lost with it, and no more, will be recorded anew."
        try:
            if verify:
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != path.stem:
                        raise StoreError(f"{path} is damaged: it is not what was written. {again}")
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                keys, lengths, blocks = (file.get_tensor(name) for name in ("keys", "lengths", "blocks"))
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror or error}).") from error
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"{path} is damaged ({error}). {again}") from error
        assert self.made_by is not None
        if metadata.get("made_by") != _digest(self.made_by):
            raise StoreError(
                f"{path} belongs to a store that was made by another model, or by another version: take it out of "
                f"{self.folder}."
            )
        lengths = lengths.long()
        sizes = block_sizes(lengths)
        if keys.shape != lengths.shape or bool((lengths < 1).any()) or blocks.shape != (int(sizes.sum()),):
            raise StoreError(f"{path} is damaged: its parts do not fit together. {again}")
        return _Shard(path, keys, sizes.cumsum(0) - sizes, lengths, blocks, float(metadata.get("noise", 0)))

    @contextlib.contextmanager
    def _unfinished(self) -> Any:
        for path in self.folder.glob(UNFINISHED + "*"):  # of writers that were killed
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()
        handle, name = tempfile.mkstemp(prefix=UNFINISHED, dir=self.folder)
        os.close(handle)
        path = Path(name)
        path.chmod(0o666 & ~_umask())
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
