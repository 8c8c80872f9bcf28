"""Log-probabilities of an earlier model, computed once before training."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..data import BatchIndex, MicroBatch
from ..data.loading import Lookup
from ..errors import Problem, refused
from ..markers import hookimpl
from ..model.adapters import has_adapter
from ..options import NoOptions, option
from ..store import DiskStore, StoreError, stored_bytes
from .adapter import AdapterHistory, AdapterOptions
from .base import History, LiveHistory, Stored, TrainingRun
from .below_adapter import BaseHistory
from .identity import made_by
from .stored import N_MISSING, VALUES, StoredHistory, StoreLookup

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordedOptions(AdapterOptions):
    history_store: str | None = option(
        None, "Folder of the recorded log-probabilities; `sstoken record` fills it.", shown=True, folder=True
    )
    history_record: bool = option(False, "Record what the store lacks of the training data before the first step.")
    history_strict: bool = option(
        False, "Stop if a sample is not in the store, instead of computing its history while training."
    )

    def problems(self) -> Iterator[Problem]:
        if not self.history_store:
            yield Problem(
                "{history} is 'recorded' but {history_store} is not set: set it to a folder, and fill it with "
                "`sstoken record` or by setting {history_record} to True."
            )


class RecordedHistory(StoredHistory):
    """The base model or a frozen adapter, read from `history_store`: no forward pass at all.

    Samples are known by their tokens, so the data may be shuffled, filtered, packed or added to. Those that are not in
    the store are scored by the model below the adapter in training, if there is one, and counted in the log.
    """

    Options = RecordedOptions
    knows_any_text = True

    def __init__(self, options: RecordedOptions, name: str = "recorded") -> None:
        super().__init__(options, name)
        assert options.history_store is not None  # granted by the options
        try:
            self.store = DiskStore(Path(options.history_store).expanduser())
        except StoreError as error:
            raise refused("{history_store}: {error}", error=error) from error
        if not self.store.exists and not options.history_record:
            raise refused(
                "{history_store} is {folder!r}, where nothing was recorded yet: fill it with `sstoken record`, which "
                "takes the options of the training, or set {history_record} to True.",
                folder=options.history_store,
            )
        self._live: LiveHistory | None = None
        self._adapter = AdapterHistory(options, name) if options.history_adapter else None
        self._warned = False

    def attach(self, model: Any, run: TrainingRun) -> None:
        self._run = run
        self._made_by = made_by(model, run, self._adapter.fingerprint if self._adapter else None)
        self.refresh()  # another process may have begun it since
        if self.store.exists:
            self.store.require(self._made_by)
        if self._adapter is not None:
            self._live = self._adapter
        elif has_adapter(model):
            self._live = BaseHistory(NoOptions(), self.name)
        if self._live is not None:
            self._live.attach(model, run)

    def lookup(self) -> Lookup:
        return StoreLookup(self.store)

    def stored(self, batch: MicroBatch) -> Stored:
        inputs: Mapping[str, Any] = batch.inputs
        if VALUES not in inputs:
            StoreLookup(self.store)(found := dict(inputs))
            inputs = found
        values: Tensor = inputs[VALUES].to(batch.documents.ids.device)
        missing = batch.documents.response & values.isnan()
        self._run.record("history_missing", missing.sum(), batch.documents.response.sum())
        if inputs[N_MISSING]:
            self._report(inputs[N_MISSING])
        return Stored(values, inputs[N_MISSING])

    @property
    def runs(self) -> bool:
        return self._live is not None

    def active(self, model: nn.Module) -> AbstractContextManager[None]:
        """While open, the model computes what is to be recorded."""
        return contextlib.nullcontext() if self._live is None else self._live.active(model)

    def describe(self) -> Mapping[str, Any]:
        return {"made_by": self._made_by}

    def memory(self, n_documents: int, n_response: int) -> Mapping[str, int]:
        live = self._adapter.memory(n_documents, n_response) if self._adapter else {}
        return {**live, "disk": stored_bytes(n_documents, n_response)}

    def outlook(self, n_missing: int | None, epochs: float | None) -> Iterator[tuple[bool, Problem]]:
        if not n_missing:
            return
        where, known = "{n} samples are not in the store {folder}", {"n": n_missing, "folder": self.store.folder}
        if self.records:
            yield False, Problem(f"{where}: they are recorded before the first step.", **known)
        elif self.options.history_strict:
            yield (
                True,
                Problem(
                    f"{{history_strict}} is True and {where}: run `sstoken record`, or set {{history_record}} to "
                    f"True.",
                    **known,
                ),
            )
        else:
            yield (
                False,
                Problem(
                    f"{where}: their history is computed while training, or, without an adapter, left out.", **known
                ),
            )

    def n_known(self, index: BatchIndex) -> int:
        return len(index) - self.store.get(index)[1]

    # Recording

    @property
    def records(self) -> bool:
        return bool(self.options.history_record)

    def begin(self) -> None:
        """Makes the store, unless it is there."""
        if self.store.made_by is None:
            self.store.create(self._made_by)

    def refresh(self) -> None:
        """Takes in what other processes have recorded."""
        self.store.refresh()
        self.noise = self.store.noise

    def _report(self, n_missing: int) -> None:
        where = "{n} samples of a micro-batch are not in the store {folder}"
        record = "Record them: run `sstoken record` again, or set {history_record} to True."
        known = {"n": n_missing, "folder": self.store.folder}
        if self.options.history_strict:
            raise refused(f"{{history_strict}} is True and {where}. {record}", **known)
        if self._live is None and self._run.relies_on_history:
            raise refused(
                f"{where}, and without an adapter there is no earlier model to score them with, nor anything else to "
                f"choose their tokens by. {record}",
                **known,
            )
        if not self._warned:
            self._warned = True
            logger.warning(
                "%d samples of a micro-batch are not in the store %s (more may follow, see "
                "`sstoken/history_missing`): %s Record them: run `sstoken record` again, or set `history_record` to "
                "True.",
                n_missing,
                self.store.folder,
                "their tokens are chosen without a history."
                if self._live is None
                else "each such micro-batch costs one more forward pass.",
            )


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    register("recorded", RecordedHistory)
