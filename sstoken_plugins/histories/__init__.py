"""Earlier selves of the model. One file each; this one holds what they have in common and registers them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..config import SSTokenConfig
from ..documents import Documents
from ..hookspecs import hookimpl

Lookup = Callable[[MutableMapping[str, Any]], None]


def _nobody_records(name: str, total: Tensor, count: Tensor) -> None: ...


@dataclass(frozen=True)
class TrainingRun:
    """What a history may know of the run it serves, beyond the model.

    Attributes:
        precision: of autocast: "no", "bf16" or "fp16".
        tokenizer: a fingerprint, if there is one.
        gather: gives every process the objects of all, in the order of their ranks; all must call it together.
        record: adds the mean `total / count` to the log; see `hookspecs.observe`.
    """

    precision: str = "no"
    tokenizer: str | None = None
    gather: Callable[[Any], list[Any]] = lambda mine: [mine]
    record: Callable[[str, Tensor, Tensor], None] = _nobody_records


class History(ABC):
    """Log-probabilities of the batch's tokens under an earlier self of the model.

    Life of a history: constructed from the configuration before any model is loaded (refuse there what can't work);
    `attach`ed to the model once; for every micro-batch asked for `log_probs` if somebody reads them, then told what
    the model says now (`remember`, `compare`); told of the end of every optimizer step; and its `state_dict` is part
    of every checkpoint.
    """

    requires_adapter: bool = False
    """Whether it can only be had beside an adapter in training."""
    follows_shards: bool = True
    """Whether it works where FSDP shards the weights."""
    knows_any_text: bool = False
    """Whether it has `log_probs_of_any_text`, and not only those of the training data as they are."""

    def __init__(self, config: SSTokenConfig) -> None:
        self.config = config

    def attach(self, model: nn.Module, run: TrainingRun) -> None:
        """Gets the unwrapped model before training; or one without weights, on the meta device, to find out whether it
        could serve.

        Raises:
            ValueError: if this model cannot have such a history.
        """

    def lookup(self) -> Lookup | None:
        """What the data loader's workers do to each training batch, on the host: a function that can be pickled.

        It may add entries, whose names begin with `sstoken_`: they come back in `inputs`, and the model does not get
        them. None: nothing.
        """
        return None

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

    def log_probs_of_any_text(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, score: Callable[[], Tensor]
    ) -> Tensor:
        """The same as `log_probs`, of a batch that is not of the training data, and that no data loader has seen."""
        raise NotImplementedError

    def remember(self, inputs: Mapping[str, Any], log_probs: Tensor) -> None:
        """Told of every micro-batch: (B, S) log-probabilities under the current model, without gradient."""

    def compare(self, history_log_probs: Tensor, log_probs: Tensor) -> Tensor:
        """What `log_probs` (B, S) are compared with: `history_log_probs`, unless their precision needs a word."""
        return history_log_probs

    def step_end(self, model: nn.Module, step: int, epoch: float | None) -> None:
        """Called after every optimizer step, which are counted from 1; `epoch` says how many were done, if known."""

    def describe(self) -> Mapping[str, Any]:
        """What identifies this history, as JSON values. A run resumed with another description is refused."""
        return {}

    def memory(self, n_documents: int, n_response: int) -> Mapping[str, int]:
        """Bytes that it takes, once attached, for data of so many documents and response tokens: on "device", "host"
        (in memory) or "disk"."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs to go on exactly, as tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores `state_dict`.

        Raises:
            ValueError: if it is not what this run's history saves.
        """


class LiveHistory(History):
    """A history whose weights are in the model: scored by one more forward pass."""

    knows_any_text = True

    @abstractmethod
    def active(self, model: nn.Module) -> AbstractContextManager[None]:
        """While open, the model computes what its earlier self would. Must leave everything as it was."""

    def log_probs(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, score: Callable[[], Tensor]
    ) -> Tensor:
        with self.active(model):
            return score()

    def log_probs_of_any_text(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, score: Callable[[], Tensor]
    ) -> Tensor:
        return self.log_probs(model, inputs, documents, score)


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    from .adapter import AdapterHistory
    from .base import BaseHistory
    from .last_visit import LastVisitHistory
    from .moving import EmaHistory, SnapshotHistory
    from .recorded import RecordedHistory

    register("base", BaseHistory)
    register("adapter", AdapterHistory)
    register("snapshot", SnapshotHistory)
    register("ema", EmaHistory)
    register("recorded", RecordedHistory)
    register("last_visit", LastVisitHistory)
