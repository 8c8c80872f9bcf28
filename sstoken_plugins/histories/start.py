"""Log-probabilities of the model that a run starts with, recorded by the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import Problem, refused
from ..model.adapters import adapter_has_learned, base_weights, has_adapter
from .base import TrainingRun
from .identity import fingerprint, made_by
from .recorded import RecordedHistory


class StartHistory(RecordedHistory):
    """The whole model as it is before the first step, adapter included: nothing else can bring it back.

    A run that is resumed reads what was recorded before its first step. Its model has to be the one it started with;
    the checkpoint's weights come later.
    """

    def attach(self, model: nn.Module, run: TrainingRun) -> None:
        self._run = run
        self._made_by = start_of(model, run)
        self.refresh()
        if self.store.exists:
            self.store.require(self._made_by)

    def resume(self, description: Mapping[str, Any]) -> None:
        theirs = description.get("made_by", {})
        other = [name for name, value in self._made_by.items() if theirs.get(name) != value]
        if other:
            raise refused(
                "{history} is {name!r}, and the checkpoint belongs to a run that started from another {other}: give "
                "the run what it was started with, and the checkpoint as `resume_from_checkpoint` alone.",
                name=self.name,
                other=" and ".join(other),
            )
        if not self.store.exists or not len(self.store):
            raise refused(
                "{history} is {name!r}, but what the model said before the first step is gone: {folder} holds "
                "nothing. Bring that folder back, or fill it again by `sstoken record` with the options of the "
                "training.",
                name=self.name,
                folder=self.store.folder,
            )

    def _report(self, n_missing: int) -> None:
        if not len(self.store):
            raise refused(
                "{history} is {name!r}, but nothing was recorded before training: call `record_history()` of the "
                "trainer, or `TokenSelector.record` for every batch in a loop of your own.",
                name=self.name,
            )
        super()._report(n_missing)

    def _how_to_record(self) -> Problem:
        return Problem(
            "They were not among the data that were recorded before the first step. Start `train()` with them, or "
            "fill the store by `sstoken record`."
        )


def start_of(model: nn.Module, run: TrainingRun) -> dict[str, Any]:
    """What has to be equal for recordings of a start to mean the same; see `identity.made_by`."""
    adapter = None
    if has_adapter(model) and adapter_has_learned(model):
        base = {id(parameter) for _, parameter in base_weights(model)}
        parts = {name: parameter for name, parameter in model.named_parameters() if id(parameter) not in base}
        adapter = fingerprint(parts)
    return made_by(model, run, adapter)
