"""Histories for looking at a model that is not in training: before the first step, and at a checkpoint."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sstoken_plugins import History, MicroBatch, Stored, TrainingRun, hookimpl
from sstoken_plugins.errors import refused
from sstoken_plugins.histories.auto import store_of
from sstoken_plugins.histories.recorded import RecordedHistory
from sstoken_plugins.registry import plugin_manager

from .state import STATE_FILE

UNCHANGED, OF_CHECKPOINT = "unchanged", "of_checkpoint"


class UnchangedHistory(History):
    """The model itself, so rel is 0: before the first step, when it is still what it was. Costs nothing."""

    knows_any_text = True

    def stored(self, batch: MicroBatch) -> Stored | None:
        """Any numbers will do: `compare` gives the model's own. Of another text those are not known yet."""
        return Stored(torch.zeros_like(batch.labels, dtype=torch.float32), 0) if batch.from_data else None

    @property
    def runs(self) -> bool:
        return True

    def active(self, model: nn.Module) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def compare(self, history_log_probs: Tensor, log_probs: Tensor) -> Tensor:
        return log_probs


class CheckpointHistory(RecordedHistory):
    """What was recorded before the first step of the run that a checkpoint is of; the model has changed since."""

    def attach(self, model: nn.Module, run: TrainingRun) -> None:
        self._run, self._in_doubt = run, False
        self.refresh()


def recorded_store(checkpoint: Path) -> Path | None:
    """Where the run of a full checkpoint recorded the model that it started with; None if it recorded none.

    Raises:
        Refused: if that store is gone.
    """
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    config, made_by = state["config"], state["history"].get("made_by")
    if config.get("history") != "auto" or made_by is None:
        return None
    given = config.get("history_store")
    folders = [Path(given)] if given else [store_of(checkpoint.parent, made_by), store_of(checkpoint, made_by)]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise refused(
        "{checkpoint} was trained in full, and what the model said before the first step is gone: it was recorded in "
        "{folder}. Bring that folder back, or set {history} to another.",
        checkpoint=str(checkpoint),
        folder=str(folders[0]),
    )


def is_full_checkpoint(folder: str | None) -> bool:
    """Whether it is a whole model that was trained with token selection, and no adapter."""
    return (
        folder is not None and Path(folder, STATE_FILE).is_file() and not Path(folder, "adapter_config.json").is_file()
    )


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    register(UNCHANGED, UnchangedHistory)
    register(OF_CHECKPOINT, CheckpointHistory)


def register() -> None:
    """Makes them known in this process."""
    if not plugin_manager().is_registered(sys.modules[__name__]):
        plugin_manager().register(sys.modules[__name__])
