"""What a reference model says of each token: one that is no earlier version of the model in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..data import MicroBatch
from ..data.loading import Lookup
from ..errors import Problem
from ..histories import History, TrainingRun
from ..histories.reference import ReferenceAdapter, ReferenceStore
from ..markers import hookimpl
from ..options import NoOptions, option
from .base import Column, Measurement, OwnPass, Passes


@dataclass(frozen=True)
class ReferenceOptions(NoOptions):
    reference_adapter: str | None = option(
        None,
        "Folder of a PEFT adapter, trained on clean data, that makes the reference model out of the base model.",
        shown=True,
        folder=True,
    )
    reference_store: str | None = option(
        None,
        "Folder of log-probabilities that a reference model with the same tokenizer gave; `sstoken record --as "
        "reference` fills it.",
        shown=True,
        folder=True,
    )

    def problems(self) -> Iterator[Problem]:
        if self.reference_adapter and self.reference_store:
            yield Problem("{reference_adapter} and {reference_store} are both set: set one of them.")
        if not self.reference_adapter and not self.reference_store:
            yield Problem(
                "{strategy} reads a reference model, but neither {reference_adapter} nor {reference_store} is set: "
                "set the first to the folder of an adapter that was trained on clean data, or the second to a folder "
                "that `sstoken record --as reference` filled."
            )


class ReferenceLogProbs(OwnPass):
    """`log p(token | tokens before)` under the reference model, in nats.

    A reference adapter costs one forward pass and its own memory. A recording costs neither, and its model may be any
    with the same tokenizer; a sample that was not recorded stops the run.
    """

    Options = ReferenceOptions
    cost = "a forward pass of the reference adapter, or none if the reference was recorded"
    column = Column(
        "log-prob reference",
        "The log-probability of the token under the reference model, in nats.",
        name="reference_log_prob",
        log_probability=True,
    )

    def __init__(self, options: ReferenceOptions, history: History | None = None) -> None:
        super().__init__(options, history)
        self._adapter = self._store = None
        if options.reference_adapter:
            self._adapter = ReferenceAdapter(options, options.reference_adapter)
        elif options.reference_store:
            self._store = ReferenceStore(options.reference_store)

    def attach(self, model: nn.Module, run: TrainingRun) -> None:
        if self._adapter is not None:
            self._adapter.attach(model, run)
        if self._store is not None:
            self._store.attach(run)

    def lookup(self) -> Lookup | None:
        return None if self._store is None else self._store.lookup()

    def identity(self) -> Mapping[str, Any]:
        if self._store is not None:
            return self._store.identity()
        assert self._adapter is not None
        return self._adapter.describe()

    def measure(self, passes: Passes, batch: MicroBatch) -> Tensor:
        if self._store is not None:
            return self._store.log_probs(batch)
        assert self._adapter is not None
        with self._adapter.active(passes.model):
            return passes.log_probs(batch)


@hookimpl
def register_measurements(register: Callable[[str, type[Measurement]], None]) -> None:
    register("reference", ReferenceLogProbs)
