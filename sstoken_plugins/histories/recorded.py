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
from ..store import DiskStore, StoreError, resolution, stored_bytes
from ..store.codec import SMALLEST_LOG_PROB
from .adapter import AdapterHistory, AdapterOptions
from .base import History, LiveHistory, Stored, TrainingRun
from .below_adapter import BaseHistory
from .identity import made_by
from .stored import N_MISSING, VALUES, StoredHistory, StoreLookup

logger = logging.getLogger(__name__)

STORE_HELP = (
    "Folder of the recorded log-probabilities; `sstoken record` fills it. With history 'auto' the run fills it, and "
    "unset it is `_sstoken-history` in the run's output folder."
)
# Stored values are this model's if, save for a few tokens, they are within so many times the noise that was measured
# while recording (the 99th percentile of what another batch changes), or so many nats.
TIMES_NOISE, SAME_IN_FLOAT32, SAME_IN_HALF, FEW = 3, 0.01, 0.1, 0.05


@dataclass(frozen=True)
class RecordedOptions(AdapterOptions):
    history_store: str | None = option(None, STORE_HELP, shown=True, folder=True)
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
        except (StoreError, RuntimeError) as error:  # "~somebody" may be nobody
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
        self._in_doubt = True

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

    @property
    def recording(self) -> RecordedHistory:
        return self

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

    @property
    def in_doubt(self) -> bool:
        return self._in_doubt

    def verify(self, stored: Stored, log_probs: Tensor, response: Tensor) -> None:
        self._in_doubt = False
        known = response & ~stored.values.isnan()
        then, now = stored.values[known], log_probs[known].clamp(min=SMALLEST_LOG_PROB)
        exact = self._made_by["precision"] == "float32, autocast no"
        allowed = max(TIMES_NOISE * self.noise, SAME_IN_FLOAT32 if exact else SAME_IN_HALF)
        difference = (then - now).abs()
        n_off = int((difference > allowed + 2 * resolution(then)).sum())
        if n_off > max(1, FEW * len(then)):
            worst = int(difference.argmax())
            raise refused(
                "{history_store} is {folder!r}, but its log-probabilities are not this model's: {n} of {all} tokens "
                "of the first micro-batch differ by more than {allowed:.3g} nats (one was recorded as {then:.3f} and "
                "is {now:.3f} now). Weights, configuration, or the libraries that run the model are others than those "
                "that it was recorded with. Record into another folder.",
                folder=self.options.history_store,
                n=n_off,
                all=len(then),
                allowed=allowed,
                then=float(then[worst]),
                now=float(now[worst]),
            )

    def step_end(self, model: nn.Module, step: int, epoch: float | None) -> None:
        if self._live is None:
            self._in_doubt = False  # there is no earlier model any more that could be asked

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if self._live is None:
            self._in_doubt = False  # the model that continues is not the one that was recorded

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
            try:
                self.store.create(self._made_by)
            except (StoreError, OSError) as error:
                raise refused("{history_store}: {error}", error=error) from error

    def refresh(self) -> None:
        """Takes in what other processes have recorded."""
        self.store.refresh()
        self.noise = self.store.noise

    def _how_to_record(self) -> Problem:
        return Problem("Record them: run `sstoken record` again, or set {history_record} to True.")

    def _report(self, n_missing: int) -> None:
        where = "{n} samples of a micro-batch are not in the store {folder}"
        record = self._how_to_record().template
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
                "`sstoken/history_missing`): %s %s",
                n_missing,
                self.store.folder,
                "their tokens are chosen without a history."
                if self._live is None
                else "each such micro-batch costs one more forward pass.",
                self._how_to_record(),
            )


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    register("recorded", RecordedHistory)
