"""What a history is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from ..data import BatchIndex, MicroBatch
from ..data.loading import Lookup
from ..errors import Problem
from ..options import NoOptions

if TYPE_CHECKING:
    from .recorded import RecordedHistory


def _discard(name: str, total: Tensor, count: Tensor) -> None: ...


@dataclass(frozen=True)
class TrainingRun:
    """What histories, measurements and methods may know of the run they serve, beyond the model.

    Attributes:
        precision: of autocast: "no", "bf16" or "fp16".
        tokenizer: a fingerprint, if there is one.
        gather: gives every process the objects of all, in the order of their ranks; all must call it together.
        reduce: sums a tensor over processes; all must call it together.
        any_process: whether it is true on any process; all must call it together.
        record: adds the mean `total / count` to the log; see `hookspecs.observe`.
        relies_on_history: whether nothing else orders the tokens, so that a sample without history has no selection.
        folder: where the run keeps what it makes; None if nobody said.
    """

    precision: str = "no"
    tokenizer: str | None = None
    gather: Callable[[Any], list[Any]] = lambda mine: [mine]
    reduce: Callable[[Tensor], Tensor] = lambda mine: mine
    any_process: Callable[[bool], bool] = lambda mine: mine
    record: Callable[[str, Tensor, Tensor], None] = _discard
    relies_on_history: bool = False
    folder: Path | None = None


@dataclass(frozen=True)
class Stored:
    """What is known of a batch without running a model.

    Attributes:
        values: (B, S) float32 log-probabilities of the labels, NaN on response tokens where nothing is known.
        n_missing: how many documents that concerns.
    """

    values: Tensor
    n_missing: int


class History(ABC):
    """Log-probabilities of the batch's tokens under an earlier version of the model.

    It says what it has stored, and how to bring the earlier model back; whoever asks runs the model. Life of a
    history: constructed from its options before any model is loaded (refuse there what cannot work); `attach`ed to the
    model once; for every micro-batch asked for what is `stored` and, if that is not enough and it `runs`, made
    `active` for one pass; told what the model says now (`remember`, `compare`) and of the end of every optimizer step;
    and its `state_dict` is part of every checkpoint.

    Attributes:
        Options: the dataclass of its options.
        name: as which it was chosen.
        requires_adapter: whether it can only be had beside an adapter in training.
        may_run: whether it may be one that `runs`; some know only with the model.
        knows_any_text: whether it can score a batch that is not of the training data.
        below_adapter: whether it is the model below the adapter in training, whatever that has learned before.
        begins_as_model: whether it is the model itself before the first step, on a fresh adapter.
        decided: what it came down to, if that was open before it saw the model.
    """

    kind = "history"
    Options: ClassVar[type[NoOptions]] = NoOptions
    requires_adapter: bool = False
    may_run: bool = False
    knows_any_text: bool = False
    below_adapter: bool = False
    begins_as_model: bool = False
    decided: str | None = None

    def __init__(self, options: Any, name: str = "history") -> None:
        self.options: Any = options
        self.name = name

    def problems(self, relies_on_history: bool) -> Iterator[Problem]:
        """What cannot work with what is read of it; see `TrainingRun.relies_on_history`."""
        yield from ()

    def attach(self, model: nn.Module, run: TrainingRun) -> None:
        """Gets the unwrapped model before training; or one without weights, on the meta device, to find out whether it
        could serve.

        Raises:
            Refused: if this model cannot have such a history.
        """

    def lookup(self) -> Lookup | None:
        """What the data loader's workers do to each training batch, on the host: a function that can be pickled."""
        return None

    def stored(self, batch: MicroBatch) -> Stored | None:
        """What is known without a pass; None if that is never anything."""
        return None

    @property
    def in_doubt(self) -> bool:
        """Whether what is stored has still to be compared with what the earlier model says: then a batch with anything
        stored gets a pass, and `verify` its results. Has to be the same on every process."""
        return False

    def verify(self, stored: Stored, log_probs: Tensor, response: Tensor) -> None:
        """Compares what is stored with (B, S) `log_probs` of the earlier model, on the (B, S) bool `response` tokens.

        Raises:
            Refused: if they are not the same model's.
        """

    @property
    def records(self) -> bool:
        """Whether it wants the training data recorded before the first step."""
        return False

    def will_record(self, has_adapter: bool) -> bool:
        """The same, known before there is a model: whether the run has an adapter is."""
        return self.records

    @property
    def recording(self) -> RecordedHistory | None:
        """What keeps its recorded log-probabilities, if it has any."""
        return None

    @property
    def runs(self) -> bool:
        """Whether the earlier model can be brought back. Has to be the same on every process and in every step."""
        return False

    def active(self, model: nn.Module) -> AbstractContextManager[None]:
        """While open, the model computes what its earlier version would. Must leave everything as it was."""
        raise NotImplementedError(f"History {self.name!r} keeps no weights.")

    def remember(self, batch: MicroBatch, log_probs: Tensor) -> None:
        """Told of every micro-batch that trains: (B, S) log-probabilities under the current model, no gradient."""

    def compare(self, history_log_probs: Tensor, log_probs: Tensor) -> Tensor:
        """What `log_probs` (B, S) are compared with: `history_log_probs`, unless their precision needs a word."""
        return history_log_probs

    def step_end(self, model: nn.Module, step: int, epoch: float | None) -> None:
        """Called after every optimizer step, which are counted from 1; `epoch` says how many were done, if known."""

    def describe(self) -> Mapping[str, Any]:
        """What identifies this history, as JSON values. A run resumed with another description is refused."""
        return {}

    @property
    def known_as(self) -> str:
        """The name under which checkpoints know it: runs with histories of one name and description may follow each
        other."""
        return self.name

    def resume(self, description: Mapping[str, Any]) -> None:
        """Told what `describe` had said when the checkpoint was saved that the run continues from, after `attach`.

        Raises:
            Refused: if it cannot continue from there. What only differs is refused without this.
        """

    def memory(self, n_documents: int, n_response: int) -> Mapping[str, int]:
        """Bytes that it takes, once attached, for data of so many documents and response tokens: on "device", "host"
        (in memory) or "disk"."""
        return {}

    def outlook(self, n_missing: int | None, epochs: float | None) -> Iterator[tuple[bool, Problem]]:
        """What to say of a run before it starts: whether it stops the run, and the sentence.

        Args:
            n_missing: documents that it does not know; None if it never knows any before training.
            epochs: how often the data will be seen; None if that is not known.
        """
        yield from ()

    def n_known(self, index: BatchIndex) -> int | None:
        """How many documents of a batch it knows before training; None if it never knows any then."""
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs to continue exactly, as tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores `state_dict`.

        Raises:
            Refused: if it is not what this run's history saves.
        """


class LiveHistory(History):
    """A history whose weights are in the model: scored by one more forward pass."""

    may_run = True
    knows_any_text = True

    @property
    def runs(self) -> bool:
        return True

    @abstractmethod
    def active(self, model: nn.Module) -> AbstractContextManager[None]: ...
