"""The history before the first step, when the model is still what it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sstoken_plugins import Documents, History, hookimpl
from sstoken_plugins.plugins import plugin_manager

NAME = "unchanged"
# The histories that a fresh adapter leaves where the model is.
REPLACES = ("base", "snapshot", "ema")


class UnchangedHistory(History):
    """The model itself, so rel is 0. Costs nothing."""

    knows_any_text = True

    def log_probs(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, score: Callable[[], Tensor]
    ) -> Tensor:
        return torch.zeros(documents.ids.shape, device=documents.ids.device)

    def log_probs_of_any_text(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, score: Callable[[], Tensor]
    ) -> Tensor:
        return score()

    def compare(self, history_log_probs: Tensor, log_probs: Tensor) -> Tensor:
        return log_probs


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    register(NAME, UnchangedHistory)


def register() -> None:
    """Makes it known in this process."""
    if not plugin_manager().is_registered(sys.modules[__name__]):
        plugin_manager().register(sys.modules[__name__])
