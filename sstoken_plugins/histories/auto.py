"""The model that training starts from, by the cheapest way in which it can be had."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..data import BatchIndex, MicroBatch
from ..data.loading import Lookup
from ..errors import Problem, Refused, refused
from ..markers import hookimpl
from ..model.adapters import has_adapter
from ..options import NoOptions, option
from .base import History, Stored, TrainingRun
from .below_adapter import BaseHistory, refuse_moved_base, refuse_prompt_learning, refuse_trained_base
from .recorded import STORE_HELP, RecordedHistory, RecordedOptions
from .start import StartHistory, start_of

logger = logging.getLogger(__name__)

FOLDER = "_sstoken-history"
"""Of the stores, in the run's output folder: one store for each model, named after what made it. `push_to_hub` leaves
out what begins with an underscore."""


@dataclass(frozen=True)
class AutoOptions(NoOptions):
    history_store: str | None = option(None, STORE_HELP, folder=True)


class AutoHistory(History):
    """The model that training starts from; how, is decided when the model is there:

        adapter in training, base untouched       `base`: the adapter switched off, one more forward pass
        full fine-tuning                          its log-probabilities of the data, recorded before the first step
        adapter that moves or trains the base     the same, of the model as it starts, adapter included

    The second case is PiSSA and its like, biases and other base parameters in training: switching the adapter off
    would not bring the start back.
    """

    Options = AutoOptions
    may_run = True
    knows_any_text = True
    begins_as_model = True

    def __init__(self, options: AutoOptions, name: str = "auto") -> None:
        super().__init__(options, name)
        self._chosen: BaseHistory | StartHistory | None = None

    def will_record(self, has_adapter: bool) -> bool:
        return not has_adapter

    def attach(self, model: Any, run: TrainingRun) -> None:
        self._chosen = self._choose(model, run)
        self._chosen.attach(model, run)
        self.below_adapter = self._chosen.below_adapter
        self.decided = "base" if self.recording is None else "start model, recorded"

    def _choose(self, model: Any, run: TrainingRun) -> BaseHistory | StartHistory:
        if not has_adapter(model):
            return self._start(model, run)
        refuse_prompt_learning(model)
        try:
            refuse_moved_base(model, self.name)
            refuse_trained_base(model, self.name)
        except Refused:
            logger.warning(
                "`history` is %r: the adapter moves or trains parameters of the base model, so switching it off would "
                "not bring back where training starts. What the model says of the data is recorded before the first "
                "step instead, adapter included.",
                self.name,
            )
            return self._start(model, run)
        return BaseHistory(NoOptions(), self.name)

    def _start(self, model: nn.Module, run: TrainingRun) -> StartHistory:
        known = start_of(model, run)
        if self.options.history_store:
            folder = Path(self.options.history_store)
        elif run.folder is not None:
            folder = store_of(run.folder, known)
        else:
            raise refused(
                "{history} is {name!r}, which without an untouched base model below an adapter records what the model "
                "says of the data before the first step, but no folder is set for that: set {history_store} to one.",
                name=self.name,
            )
        return StartHistory(RecordedOptions(history_store=str(folder), history_record=True), self.name)

    @property
    def chosen(self) -> BaseHistory | StartHistory:
        """What it came down to, once attached."""
        if self._chosen is None:
            raise RuntimeError("History 'auto' decides when it is attached to a model.")
        return self._chosen

    @property
    def known_as(self) -> str:
        return self.name if self._chosen is None or self.recording is not None else "base"

    # All else is up to what was chosen.

    def lookup(self) -> Lookup | None:
        return None if self._chosen is None else self._chosen.lookup()

    def stored(self, batch: MicroBatch) -> Stored | None:
        return self.chosen.stored(batch)

    @property
    def records(self) -> bool:
        return self._chosen is not None and self._chosen.records

    @property
    def recording(self) -> RecordedHistory | None:
        return None if self._chosen is None else self._chosen.recording

    @property
    def runs(self) -> bool:
        return self.chosen.runs

    def active(self, model: nn.Module) -> AbstractContextManager[None]:
        return self.chosen.active(model)

    @property
    def in_doubt(self) -> bool:
        return self.chosen.in_doubt

    def verify(self, stored: Stored, log_probs: Tensor, response: Tensor) -> None:
        self.chosen.verify(stored, log_probs, response)

    def step_end(self, model: nn.Module, step: int, epoch: float | None) -> None:
        self.chosen.step_end(model, step, epoch)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if self._chosen is not None:
            self._chosen.load_state_dict(state)

    def compare(self, history_log_probs: Tensor, log_probs: Tensor) -> Tensor:
        return self.chosen.compare(history_log_probs, log_probs)

    def describe(self) -> Mapping[str, Any]:
        return {} if self._chosen is None else self._chosen.describe()

    def resume(self, description: Mapping[str, Any]) -> None:
        self.chosen.resume(description)

    def memory(self, n_documents: int, n_response: int) -> Mapping[str, int]:
        return {} if self._chosen is None else self._chosen.memory(n_documents, n_response)

    def outlook(self, n_missing: int | None, epochs: float | None) -> Iterator[tuple[bool, Problem]]:
        if self._chosen is not None and self.recording is not None:
            yield (
                False,
                Problem(
                    "{history} is {name!r}: what the model says of the data is recorded before the first step, which "
                    "takes a forward pass over one epoch. The next run with the same model and data reuses it.",
                    name=self.name,
                ),
            )

    def n_known(self, index: BatchIndex) -> int | None:
        return None  # what a store holds is only known to belong to a model with weights


def store_of(folder: Path, made_by: Mapping[str, Any]) -> Path:
    """Where a run with this output folder keeps the recording of the model that it started with."""
    return folder / FOLDER / hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:12]


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    register("auto", AutoHistory)
