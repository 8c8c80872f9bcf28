"""What belongs to a checkpoint: its files, with sizes and digests, inside the file that marks it as complete.

Trainers write `trainer_state.json` last, and put into it what callbacks export. So the list is there exactly if the
checkpoint was finished, and tells afterwards whether all of it is still there, and still the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from sstoken_plugins.errors import printable

TRAINER_FILE = "trainer_state.json"
# What a resumed run reads.
_READ = frozenset((".safetensors", ".bin", ".pt", ".pth"))
_READ_TOO = frozenset(("adapter_config.json", "sstoken.json"))
_NOT_READ = frozenset(("training_args.bin",))
# A larger file is known by as many bytes of it, in pieces all over it: hashing gigabytes would make every save wait.
_PIECE, _PIECES = 1 << 20, 64
_CALLBACKS = "stateful_callbacks"


class SSTokenCheckpoint(TrainerCallback, ExportableState):
    """Exports the list; the name of this class is its key in `trainer_state.json`."""

    def __init__(self) -> None:
        self._saving: tuple[Path, Any, bool] | None = None
        self.listed: dict[str, Any] = {}

    def saving(self, folder: Path, trainer_state: Any, alone: bool) -> None:
        """Tells it, while a checkpoint is being saved, where; `alone`: by the only process of the run."""
        self._saving = (folder, trainer_state, alone)

    def state(self) -> dict[str, Any]:
        """Called when everything else was written, and the trainer's own state is what it will be in the file."""
        if self._saving is not None:
            folder, trainer_state, alone = self._saving
            self._saving = None
            self.listed = {
                "step": trainer_state.global_step,
                "state": _digest_of_state(dataclasses.asdict(trainer_state)),
                "files": {name: _entry(folder / name) for name in sorted(_names(folder, alone))},
            }
        return {"args": {}, "attributes": {"listed": self.listed}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # A state that is resumed from a run without selection has no place for it.
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())


@dataclass(frozen=True)
class Contents:
    """What `trainer_state.json` says of a checkpoint.

    Attributes:
        global_step: that the trainer will continue from.
        is_as_listed: whether the trainer's own state is what it was when the files were listed.
        step: at which they were; None if they were not.
        files: name -> (size, digest).
    """

    global_step: int
    is_as_listed: bool
    step: int | None
    files: dict[str, tuple[int, str]]


def read(checkpoint: Path) -> Contents:
    """Raises:
    OSError: if there is no `trainer_state.json`.
    ValueError: if it is damaged.
    """
    try:
        state = json.loads((checkpoint / TRAINER_FILE).read_text(encoding="utf-8"))
        own = (state.get(_CALLBACKS) or {}).get(SSTokenCheckpoint.__name__, {}).get("attributes", {})
        listed = own.get("listed") or {}
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in listed.get("files", {}).items()}
        as_listed = listed.get("state") == _digest_of_state(state)
        return Contents(int(state["global_step"]), as_listed, listed.get("step"), files)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{TRAINER_FILE} is damaged ({type(error).__name__}: {error})") from error


def lacking(checkpoint: Path) -> str | None:
    """Why a checkpoint is incomplete, if it is; None otherwise."""
    try:
        files = read(checkpoint).files
    except OSError as error:
        return f"{TRAINER_FILE} cannot be read: {error.strerror}"
    except ValueError as error:
        return str(error)
    for name, (size, _) in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{printable(name)}, which {TRAINER_FILE} lists, is missing"
        if path.stat().st_size != size:
            return f"{printable(name)} has {path.stat().st_size} bytes, of {size}"
    return None


def mixed_up(checkpoint: Path) -> str | None:
    """What of a complete checkpoint is not what was saved, if anything is; None otherwise."""
    known = read(checkpoint)
    if known.step is None:
        if not (checkpoint / "sstoken.json").exists():
            return None
        return (
            f"its {TRAINER_FILE} does not know its sstoken.json: one of them is of another run, or of an earlier "
            "version of sstoken-plugins"
        )
    number = checkpoint.name.removeprefix("checkpoint-")
    if number.isdigit() and int(number) != known.step:
        return f"its folder is named after step {number}, but it was saved at step {known.step}"
    if known.global_step != known.step:
        return f"its {TRAINER_FILE} says step {known.global_step}, but it was saved at step {known.step}"
    if not known.is_as_listed:
        return f"{TRAINER_FILE} was changed after it was saved"
    for name, (_, digest) in known.files.items():
        if _digest(checkpoint / name) != digest:
            return f"{printable(name)} is not the file that was saved with the others"
    return None


def _names(folder: Path, alone: bool) -> Iterator[str]:
    """Of the files that a resumed run reads; among several processes, those that were written by the one that asks."""
    for path in folder.rglob("*") if alone else folder.iterdir():
        name = path.relative_to(folder).as_posix()
        of_others = not alone and name.startswith("rng_state_") and name != "rng_state_0.pth"
        is_read = (path.suffix in _READ or name in _READ_TOO) and name not in _NOT_READ
        if is_read and not of_others and path.is_file():
            yield name


def _entry(path: Path) -> list[Any]:
    return [path.stat().st_size, _digest(path)]


def _digest(path: Path) -> str:
    size = os.path.getsize(path)
    with path.open("rb") as file:
        if size <= _PIECE * _PIECES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        for piece in range(_PIECES):
            file.seek((size - _PIECE) * piece // (_PIECES - 1))
            digest.update(file.read(_PIECE))
        return f"pieces {digest.hexdigest()}"


def _digest_of_state(state: Mapping[str, Any]) -> str:
    own = {name: value for name, value in state.items() if name != _CALLBACKS}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
