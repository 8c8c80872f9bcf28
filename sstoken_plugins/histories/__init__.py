"""Earlier selves of the model. One file each; this one holds what they have in common and registers them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from torch import Tensor, nn

from ..config import SSTokenConfig
from ..documents import Documents
from ..hookspecs import hookimpl


class History(ABC):
    """Log-probabilities of the batch's tokens under an earlier self of the model.

    Life of a history: constructed from the configuration before any model is loaded (refuse there what can't work),
    `attach`ed to the model once, asked for `log_probs` of every micro-batch, told of the end of every optimizer step,
    and its `state_dict` is part of every checkpoint.
    """

    requires_adapter: ClassVar[bool] = False
    """Whether it can only be had beside an adapter in training."""

    def __init__(self, config: SSTokenConfig) -> None:
        self.config = config

    def attach(self, model: nn.Module) -> None:
        """Gets the unwrapped model before training.

        Raises:
            ValueError: if this model cannot have such a history.
        """

    @abstractmethod
    def log_probs(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, score: Callable[[], Tensor]
    ) -> Tensor:
        """(B, S) float32 log-probabilities of the labels, aligned with them; no gradient.

        Args:
            model: the unwrapped model, in training.
            inputs: the batch as the collator gives it.
            score: runs the model as it is now on this batch, without gradient and dropout, and returns its (B, S)
                log-probabilities.
        """

    def step_end(self, model: nn.Module, step: int) -> None:
        """Called after every optimizer step; `step` counts them from 1."""

    def describe(self) -> Mapping[str, Any]:
        """What identifies this history, as JSON values. A run resumed with another description is refused."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs to go on exactly, as tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores `state_dict`."""


class LiveHistory(History):
    """A history whose weights are in the model: scored by one more forward pass."""

    @abstractmethod
    def active(self, model: nn.Module) -> AbstractContextManager[None]:
        """While open, the model computes what its earlier self would. Must leave everything as it was."""

    def log_probs(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, score: Callable[[], Tensor]
    ) -> Tensor:
        with self.active(model):
            return score()


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    from .adapter import AdapterHistory
    from .base import BaseHistory

    register("base", BaseHistory)
    register("adapter", AdapterHistory)
