"""What a checkpoint has to remember of the selection."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from sstoken_plugins import TokenSelector

logger = logging.getLogger(__name__)

STATE_FILE, TENSORS_FILE = "sstoken.json", "sstoken_history.safetensors"


def save_state(selector: TokenSelector, folder: Path) -> None:
    """Writes the state into a checkpoint folder; each file appears whole or not at all."""
    tensors = selector.history.state_dict() if selector.history else {}
    if tensors:
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        _replace(folder / TENSORS_FILE, lambda path: save_file(contiguous, path))
    state = {**selector.describe(), "has_tensors": bool(tensors)}
    _replace(folder / STATE_FILE, lambda path: path.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8"))


def load_state(selector: TokenSelector, folder: Path) -> None:
    """Restores the state from a checkpoint folder.

    Raises:
        ValueError: if the checkpoint was made with another history, or is damaged.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        logger.warning(
            "Checkpoint %s was saved without token selection, or with `save_only_model`: from here on this run "
            "selects tokens, and its history begins anew.",
            folder,
        )
        return
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        before, before_history = state["config"], state["history"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): resume from another checkpoint.") from error
    now = selector.describe()
    if before["history"] != now["config"]["history"] or before_history != now["history"]:
        raise ValueError(
            f"Checkpoint {folder} was saved with history {before['history']!r} {before_history}, but this run has "
            f"{now['config']['history']!r} {now['history']}: to go on, give the run the history it was started with."
        )
    changed = {
        name: (before.get(name), value)
        for name, value in now["config"].items()
        if before.get(name) != value and name not in ("history_adapter", "report_steps", "report_samples")
    }
    for name, (old, new) in changed.items():
        logger.warning("This run goes on with `%s` %r, where checkpoint %s was saved with %r.", name, new, folder, old)
    if selector.history is not None and state.get("has_tensors"):
        if not (folder / TENSORS_FILE).is_file():
            raise ValueError(f"{folder / TENSORS_FILE} is missing: resume from another checkpoint.")
        try:
            tensors = load_file(folder / TENSORS_FILE)
        except Exception as error:
            raise ValueError(
                f"{folder / TENSORS_FILE} is damaged ({error}): resume from another checkpoint."
            ) from error
        selector.history.load_state_dict(tensors)


def _replace(path: Path, write: Any) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
