"""The files of a store: whole or absent, with checksums of their own, and never changed.

store/
  store.json              what made it: the manifest
  <sha256>.safetensors    some of the documents; named by the hash of what is in it
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import printable
from .codec import block_sizes

FORMAT = 2
MANIFEST = "store.json"
UNFINISHED = ".unfinished-"
_STALE_SECONDS = 24 * 3600.0


class StoreError(ValueError):
    """The folder is not a history store, is damaged, or was made by another model."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))  # files in it may have any name


@dataclass(frozen=True)
class Shard:
    """A file of documents, memory-mapped.

    Attributes:
        keys: (D,) int64, see `document_keys`.
        starts: (D,) int64, where in `blocks` each begins.
        lengths: (D,) int64, response tokens of each.
        blocks: uint8, see `codec`.
        noise: how much a log-probability differs when the same document is scored in another batch, in nats.
    """

    path: Path
    keys: Tensor
    starts: Tensor
    lengths: Tensor
    blocks: Tensor
    noise: float


def is_store(folder: Path) -> bool:
    """Whether a store begins there.

    Raises:
        StoreError: if something else is there.
    """
    try:
        is_dir, is_there = folder.is_dir(), folder.exists()
    except OSError as error:  # a name that is too long, for example
        raise StoreError(f"{_shown(folder)} cannot be a folder ({error.strerror}). Give another path.") from error
    if is_dir:
        ours = (MANIFEST, UNFINISHED)
        others = [path.name for path in folder.iterdir() if not path.name.startswith(ours)]
        if others and not (folder / MANIFEST).exists():
            raise StoreError(
                f"{folder} has no {MANIFEST}, but other files such as {sorted(others)[0]!r}: it is not a history "
                "store, or its head was lost. Nothing was changed. Give a folder that does not exist yet."
            )
    elif is_there:
        raise StoreError(f"{folder} is a file, not the folder of a store. Give another path.")
    return (folder / MANIFEST).exists()


def read_manifest(folder: Path) -> dict[str, Any]:
    """What made the store.

    Raises:
        StoreError: if it cannot be read, is damaged, or is of another format.
    """
    path = folder / MANIFEST
    lost = "its recordings cannot be told from another model's any more. Record into another folder."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        body = {name: value for name, value in content.items() if name != "sha256"}
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({error}): {lost}") from error
    if content.get("format") == 1:
        raise StoreError(
            f"{path} has format 1, of an earlier version of sstoken-plugins. Samples are known by other keys now, "
            "so nothing would be found in it. Record into another folder."
        )
    if content.get("format") not in (None, FORMAT):
        raise StoreError(
            f"{path} has format {content['format']!r}; this version of sstoken-plugins reads format {FORMAT}. "
            "Upgrade sstoken-plugins, or record into another folder."
        )
    if content.get("sha256") != digest(body) or not isinstance(body.get("made_by"), dict):
        raise StoreError(f"{path} is damaged (its checksum is wrong): {lost}")
    made_by: dict[str, Any] = body["made_by"]
    return made_by


def write_manifest(folder: Path, made_by: Mapping[str, Any]) -> None:
    """Unless another writer does so at this moment."""
    body = {"format": FORMAT, "made_by": dict(made_by)}
    text = json.dumps({**body, "sha256": digest(body)}, indent=2) + "\n"
    try:
        with _unfinished(folder) as path:
            path.write_text(text, encoding="utf-8")
            try:
                os.link(path, folder / MANIFEST)  # unlike a rename, never replaces what another writer made
            except OSError:  # there already, or a file system without links, such as a mounted cloud drive
                if not (folder / MANIFEST).exists():
                    os.replace(path, folder / MANIFEST)
    except OSError as error:
        raise OSError(
            error.errno,
            f"The store {folder} could not be created ({_reason(error)}): nothing was recorded. Make room, fix the "
            "cause, or give another folder.",
        ) from error


def read_shard(path: Path, made_by: Mapping[str, Any], verify: bool) -> Shard:
    """Args:
        made_by: of the store that it has to belong to.
        verify: compare it with its checksum.

    Raises:
        StoreError: if it cannot be read, is damaged, or belongs to another store.
    """
    from safetensors import safe_open

    again = f"Delete {path.name} and record again: what is lost with it, and no more, will be recorded again."
    try:
        if verify:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != path.stem:
                    raise StoreError(f"{path} is damaged: it is not what was written. {again}")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            keys, lengths, blocks = (file.get_tensor(name) for name in ("keys", "lengths", "blocks"))
            noise = float(metadata.get("noise", 0))
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror or error}).") from error
    except StoreError:
        raise
    except Exception as error:
        raise StoreError(f"{path} is damaged ({error}). {again}") from error
    if metadata.get("made_by") != digest(made_by):
        raise StoreError(
            f"{path} belongs to a store that was made by another model, or by another version: take it out of "
            f"{path.parent}."
        )
    formats = tuple(str(tensor.dtype).removeprefix("torch.") for tensor in (keys, lengths, blocks))
    if formats != ("int64", "int32", "uint8") or {keys.dim(), lengths.dim(), blocks.dim()} != {1}:
        raise StoreError(f"{path} is damaged: its parts are not those of a store. {again}")
    lengths = lengths.long()
    sizes = block_sizes(lengths)
    if keys.shape != lengths.shape or bool((lengths < 1).any()) or blocks.shape != (int(sizes.sum()),):
        raise StoreError(f"{path} is damaged: its parts do not fit together. {again}")
    return Shard(path, keys, sizes.cumsum(0) - sizes, lengths, blocks, noise)


def write_shard(
    folder: Path, made_by: Mapping[str, Any], keys: Tensor, lengths: Tensor, blocks: Tensor, noise: float
) -> Path:
    """Where it was written.

    Raises:
        OSError: if it cannot be; the store stays as it was.
    """
    from safetensors.torch import save

    metadata = {"format": str(FORMAT), "made_by": digest(made_by), "noise": repr(noise)}
    content = save({"keys": keys, "lengths": lengths.int(), "blocks": blocks}, metadata)
    final = folder / f"{hashlib.sha256(content).hexdigest()}.safetensors"
    try:
        with _unfinished(folder) as path:
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(path, final)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{len(content) / 1e6:.1f} MB of log-probabilities could not be written to {folder} "
            f"({_reason(error)}). What was recorded before is safe: make room, or fix the cause, and start again; "
            "recording resumes where it stopped.",
        ) from error
    return final


def _shown(folder: Path) -> str:
    text = str(folder)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror)


def digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    for path in folder.glob(UNFINISHED + "*"):  # of writers that were killed
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
    handle, name = tempfile.mkstemp(prefix=UNFINISHED, dir=folder)
    os.close(handle)
    path = Path(name)
    path.chmod(0o666 & ~_umask())
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
