"""What belongs to a checkpoint: its files, with sizes and digests, inside the file that marks it as complete.

Trainers write `trainer_state.json` last, and put into it what callbacks export. So the list is there exactly if the
checkpoint was finished, and tells afterwards whether all of it is still there, and still the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

TRAINER_FILE = "trainer_state.json"
# What a resumed run reads.
_READ = frozenset((".safetensors", ".bin", ".pt", ".pth"))
_READ_TOO = frozenset(("adapter_config.json", "sstoken.json"))
_NOT_READ = frozenset(("training_args.bin",))
# A larger file is known by as many bytes of it, in pieces all over it: hashing gigabytes would make every save wait.
_PIECE, _PIECES = 1 << 20, 64


class SSTokenCheckpoint(TrainerCallback, ExportableState):
    """Exports the list; its name is the key in `trainer_state.json`. `folder` is set while one is being saved."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.step: int | None = None
        self.best_metric: float | None = None
        self.alone = True
        self.files: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        if self.folder is not None:
            self.files = {name: _entry(self.folder / name) for name in sorted(_names(self.folder, self.alone))}
            self.folder = None
        return {"args": {}, "attributes": {"step": self.step, "best_metric": self.best_metric, "files": self.files}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # A state that is resumed from a run without selection has no place for it.
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())


@dataclass(frozen=True)
class Contents:
    """What `trainer_state.json` says of a checkpoint.

    Attributes:
        global_step, best_metric: that the trainer will continue from.
        step, listed_metric: the same, when the files were listed; None if they were not.
        files: name -> [size, digest].
    """

    global_step: int
    best_metric: float | None
    step: int | None
    listed_metric: float | None
    files: dict[str, tuple[int, str]]


def read(checkpoint: Path) -> Contents:
    """Raises:
    OSError: if there is no `trainer_state.json`.
    ValueError: if it is damaged.
    """
    try:
        state = json.loads((checkpoint / TRAINER_FILE).read_text(encoding="utf-8"))
        listed = (state.get("stateful_callbacks") or {}).get(SSTokenCheckpoint.__name__, {}).get("attributes", {})
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in (listed.get("files") or {}).items()}
        return Contents(
            int(state["global_step"]), state.get("best_metric"), listed.get("step"), listed.get("best_metric"), files
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{TRAINER_FILE} is damaged ({type(error).__name__}: {error})") from error


def lacking(checkpoint: Path) -> str | None:
    """Why a checkpoint is incomplete, if it is; None otherwise."""
    try:
        files = read(checkpoint).files
    except OSError as error:
        return f"{TRAINER_FILE} cannot be read ({error.strerror})"
    except ValueError as error:
        return str(error)
    for name, (size, _) in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, of {size}"
    return None


def mixed_up(checkpoint: Path) -> str | None:
    """What of a complete checkpoint is not what was saved, if anything is; None otherwise."""
    known = read(checkpoint)
    number = checkpoint.name.rpartition("-")[2]
    if known.step is None:
        if (checkpoint / "sstoken.json").exists():
            return (
                f"its {TRAINER_FILE} does not know its sstoken.json: one of them is of another run, or of an earlier "
                "version of sstoken-plugins"
            )
        return None
    for what, step in (("its folder's name", int(number) if number.isdigit() else known.step),
                       (TRAINER_FILE, known.global_step)):  # fmt: skip
        if step != known.step:
            return f"{what} says step {step}, but it was saved at step {known.step}"
    if known.best_metric != known.listed_metric:
        return f"{TRAINER_FILE} says a `best_metric` of {known.best_metric}, but it was {known.listed_metric}"
    for name, (_, digest) in known.files.items():
        if _digest(checkpoint / name) != digest:
            return f"{name} is not the file that was saved with it"
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
