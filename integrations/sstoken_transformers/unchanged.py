"""The history before the first step, when the model is still what it was."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from sstoken_plugins import History, MicroBatch, Stored, hookimpl
from sstoken_plugins.registry import plugin_manager

NAME = "unchanged"


class UnchangedHistory(History):
    """The model itself, so rel is 0. Costs nothing."""

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


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    register(NAME, UnchangedHistory)


def register() -> None:
    """Makes it known in this process."""
    if not plugin_manager().is_registered(sys.modules[__name__]):
        plugin_manager().register(sys.modules[__name__])
