"""What a checkpoint has to remember of the selection."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import refused

logger = logging.getLogger(__name__)

# What the writers of torch and safetensors say when there is no room; they have classes for all errors.
_NO_ROOM = ("iostream error", "enforce fail", "unexpected pos", "I/O")
_THEN = (
    "this checkpoint is incomplete and will be skipped; those before it are whole. Make room, or fix the cause, "
    "and resume."
)
STATE_FILE, TENSORS_FILE = "sstoken.json", "sstoken_history.safetensors"


def save_state(selector: TokenSelector, folder: Path, with_tensors: bool = True) -> None:
    """Writes the state into a checkpoint folder; each file appears whole or not at all."""
    tensors = selector.state_dict() if with_tensors else {}
    if tensors:
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        _replace(folder / TENSORS_FILE, lambda path: save_file(contiguous, path))
    state = {**selector.describe(), "has_tensors": bool(tensors)}
    _replace(folder / STATE_FILE, lambda path: path.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8"))


def load_state(selector: TokenSelector, folder: Path) -> None:
    """Restores the state from a checkpoint folder.

    Raises:
        Refused: if the checkpoint was made with another history, or is damaged.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        logger.warning(
            "Checkpoint %s was saved without token selection: from here on this run selects tokens, and its history "
            "starts from scratch.",
            folder,
        )
        return
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        before, before_history = dict(state["config"]), state["history"]
        chosen, has_tensors = before["history"], bool(state["has_tensors"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise refused(
            "{path} is damaged ({error}): resume from another checkpoint.", path=path, error=error
        ) from error
    if selector.history is not None:
        selector.history.resume(before_history)
    now = selector.describe()
    if chosen != now["config"]["history"] or before_history != now["history"]:
        raise refused(
            "Checkpoint {folder} was saved with history {before!r} {known}, but this run has {now!r} {ours}: to "
            "continue, give the run the history it was started with.",
            folder=folder,
            before=chosen,
            known=before_history,
            now=now["config"]["history"],
            ours=now["history"],
        )
    changed = {
        name: (before.get(name), value)
        for name, value in now["config"].items()
        if before.get(name, value) != value and name not in selector.config.incidental
    }
    for name, (old, new) in changed.items():
        logger.warning(
            "This run continues with `%s` %r, where checkpoint %s was saved with %r.", name, new, folder, old
        )
    try:
        selector.load_state_dict(_tensors(folder / TENSORS_FILE) if has_tensors else {})
    except (KeyError, TypeError, RuntimeError) as error:
        raise refused(
            "Checkpoint {folder} does not hold what this run's selection saves ({kind}: {error}): resume from another "
            "checkpoint.",
            folder=folder,
            kind=type(error).__name__,
            error=error,
        ) from error


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise refused("{path} is missing: resume from another checkpoint.", path=path)
    try:
        return load_file(path)
    except Exception as error:
        raise refused(
            "{path} is damaged ({error}): resume from another checkpoint.", path=path, error=error
        ) from error


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """An error of writing says what it means for the run, and what to do.

    Raises:
        OSError: in place of one, and of what torch and safetensors raise for a full disk.
    """
    try:
        yield
    except Exception as error:
        meant = isinstance(error, OSError) or any(each in str(error) for each in _NO_ROOM)
        if not meant or _THEN in str(error):
            raise
        raise OSError(
            getattr(error, "errno", None) or errno.ENOSPC,
            f"{path} could not be written ({getattr(error, 'strerror', None) or error}): {_THEN}",
        ) from error


def _replace(path: Path, write: Any) -> None:
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # that nobody can have put a link at
    try:
        with saving(path):
            write(unfinished)
            os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
