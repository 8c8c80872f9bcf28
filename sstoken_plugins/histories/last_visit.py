"""What the model itself said of a sample when it last saw it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor, nn

from ..data import BatchIndex, MicroBatch
from ..errors import Problem
from ..markers import hookimpl
from ..model.transfer import to_host
from ..options import NoOptions, option
from ..store import MemoryStore, stored_bytes
from .base import History, Stored, TrainingRun
from .below_adapter import BaseHistory
from .stored import StoredHistory


@dataclass(frozen=True)
class LastVisitOptions(NoOptions):
    first_visit: str = option(
        "attention",
        "What happens to a sample that was not seen yet: 'attention' (the score is the attention alone) or 'base' (it "
        "is compared with the base model, for one more forward pass).",
        choices=("attention", "base"),
        shown=True,
    )


class LastVisitHistory(StoredHistory):
    """The model when it last saw the same sample: an epoch ago. No forward pass, 2.25 bytes of memory a token.

    In the first epoch there is nothing to compare with: the score is the attention alone, or `first_visit: base`.
    """

    Options = LastVisitOptions

    def __init__(self, options: LastVisitOptions, name: str = "last_visit") -> None:
        super().__init__(options, name)
        self.requires_adapter = options.first_visit == "base"
        self._store = MemoryStore()
        self._first = BaseHistory(NoOptions(), name) if options.first_visit == "base" else None
        self._seen: list[tuple[BatchIndex, Tensor, Callable[[], None]]] = []

    def problems(self, relies_on_history: bool) -> Iterator[Problem]:
        if self._first is None and relies_on_history:
            yield Problem(
                "{history} is {name!r} and {first_visit} is 'attention', but the tokens are chosen by the excess loss "
                "alone, and a sample that is seen for the first time has none: set {first_visit} to 'base', or "
                "{gamma} below 1.",
                name=self.name,
            )

    def outlook(self, n_missing: int | None, epochs: float | None) -> Iterator[tuple[bool, Problem]]:
        if epochs is not None and epochs <= 1:
            yield (
                False,
                Problem(
                    "{history} is {name!r}, which compares with an epoch ago, but the run has {epochs:g}: no sample "
                    "is seen twice.",
                    name=self.name,
                    epochs=epochs,
                ),
            )

    def attach(self, model: nn.Module, run: TrainingRun) -> None:
        self._run = run
        if self._first is not None:
            self._first.attach(model, run)

    def stored(self, batch: MicroBatch) -> Stored:
        index = batch.index
        values, n_missing = self._store.get(index)
        found = index.scatter(values).to(batch.documents.ids.device, non_blocking=True)
        missing = batch.documents.response & found.isnan()
        self._run.record("history_missing", missing.sum(), batch.documents.response.sum())
        return Stored(found, n_missing)

    @property
    def runs(self) -> bool:
        return self._first is not None

    def active(self, model: nn.Module) -> AbstractContextManager[None]:
        assert self._first is not None
        return self._first.active(model)

    def remember(self, batch: MicroBatch, log_probs: Tensor) -> None:
        self._seen.append((batch.index, *to_host(log_probs)))

    def step_end(self, model: nn.Module, step: int, epoch: float | None) -> None:
        """Stores what the step has seen: so what is looked up does not depend on how a step is cut into batches."""
        mine = []
        for index, log_probs, wait in self._seen:
            wait()
            mine.append((index.keys, index.lengths, index.gather(log_probs)))
        self._seen.clear()
        for batches in self._run.gather(mine):
            for keys, lengths, log_probs in batches:
                self._store.put(keys, lengths, log_probs)

    def memory(self, n_documents: int, n_response: int) -> Mapping[str, int]:
        return {"host": stored_bytes(n_documents, n_response)}

    def state_dict(self) -> dict[str, Tensor]:
        return self._store.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._store.load_state_dict(state)


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    register("last_visit", LastVisitHistory)
