"""The kinds of measurements, by how they are taken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from ..data import Documents, MicroBatch
from ..data.loading import Lookup
from ..histories import History, TrainingRun
from ..model.logits import LogitsChunk, Statistic
from ..options import NoOptions

IF_STORED = " (none if it is stored)"
"""Ends the cost of what histories may have stored."""


@dataclass(frozen=True)
class Column:
    """How reports show a number of every token.

    Attributes:
        label: a few words, such as "attention".
        explained: a sentence or two for those who see it for the first time.
        name: in tables; None: as it was registered.
        per_document: whether its sum over a document means something too.
        log_probability: whether it is the log of a probability, which is then shown too.
    """

    label: str
    explained: str
    name: str | None = None
    per_document: bool = False
    log_probability: bool = False


class Passes(Protocol):
    """What runs the model for measurements: always without gradient, and without dropout and other chance."""

    @property
    def model(self) -> nn.Module:
        """The unwrapped model."""

    def log_probs(self, batch: MicroBatch) -> Tensor:
        """(B, S) float32 log-probabilities of the labels under the model as it is now."""

    def statistic(self, statistic: Statistic, batch: MicroBatch) -> Tensor:
        """(B, S) a number of the distributions that predict the labels, under the model as it is now."""

    def measure(self, name: str, batch: MicroBatch) -> Tensor:
        """Another measurement, of this or of a derived batch."""

    def agree(self, wanted: bool) -> bool:
        """Whether any process wants a pass: all of them have to run it together. All have to call this together."""


class Measurement(ABC):
    """One number for every token, (B, S), aligned with the labels, without gradient, 0 off the response.

    Derive from `HeadStatistic`, `TrainingPass` or `OwnPass`. Life of a measurement: constructed from its options
    before any model is loaded (refuse there what cannot work); attached to the model once; then asked for each
    micro-batch, if a signal that is read at this step needs it.

    Attributes:
        Options: the dataclass of its options.
        needs: other measurements that have to be taken before.
        reads_history: whether it asks the history itself.
        cost: what it costs beside plain training, in a few words; empty: nothing.
        column: how reports show it; None: not at all.
    """

    kind = "measurement"
    Options: ClassVar[type[NoOptions]] = NoOptions
    needs: ClassVar[frozenset[str]] = frozenset()
    reads_history: ClassVar[bool] = False
    cost: ClassVar[str] = ""
    column: ClassVar[Column | None] = None

    def __init__(self, options: Any, history: History | None = None) -> None:
        self.options: Any = options
        self.history = history

    def attach(self, model: nn.Module, run: TrainingRun) -> None:
        """Gets the unwrapped model before training; or one without weights, on the meta device. The history, if there
        is one, has been attached before.

        Raises:
            Refused: if it cannot be taken of this model.
        """

    def lookup(self) -> Lookup | None:
        """What the data loader's workers do to each training batch, on the host: a function that can be pickled."""
        return None

    def identity(self) -> Mapping[str, Any]:
        """What identifies the model that it is taken of, if that is not the one in training, as JSON values. A run
        resumed with another one is refused."""
        return {}

    def describe(self) -> str | None:
        """Where or how it is taken of the attached model, in a few words for the doctor."""
        return None

    def compare(self, values: Tensor, known: Mapping[str, Tensor]) -> Tensor:
        """What becomes of the values once others are known, `log_probs` among them."""
        return values


class HeadStatistic(Measurement):
    """A number of the distribution that predicted the token, computed where the logits are.

    Costs a sweep over the logits of each chunk, in the training pass itself, and only if it is read.
    """

    cost = "a sweep over the logits"

    @abstractmethod
    def of(self, chunk: LogitsChunk) -> Tensor:
        """(N,) float32 or bool, of the N tokens of a chunk."""


class TrainingPass(Measurement):
    """A number that is recorded inside the model, while the training pass runs."""

    @abstractmethod
    def record(self, documents: Documents) -> AbstractContextManager[list[Tensor]]:
        """While open, a forward pass leaves one (B, S) tensor in the list."""


class OwnPass(Measurement):
    """A number that takes passes of its own."""

    cost = "a forward pass"

    @abstractmethod
    def measure(self, passes: Passes, batch: MicroBatch) -> Tensor:
        """(B, S) float32. Has to do the same passes on every process; see `Passes.agree`."""
