"""A model beside the one in training that is no earlier version of it: an adapter, or recorded log-probabilities."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..data import MicroBatch
from ..data.loading import Lookup
from ..errors import refused
from ..store import DiskStore, StoreError
from .adapter import AdapterHistory
from .base import TrainingRun
from .identity import made_by
from .stored import StoreLookup

ROLE = "reference"
"""What the manifest of a reference's store says; that of a history's store says nothing."""
VALUES, N_MISSING = "sstoken_reference_log_probs", "sstoken_reference_missing"
"""What lookups add to a batch."""


class ReferenceAdapter(AdapterHistory):
    """A frozen adapter beside the one in training, and beside the history, on the same base model."""

    folder_option = "reference_adapter"


class ReferenceStore:
    """Log-probabilities of the training data that another model with the same tokenizer gave, in a folder.

    Samples are known by their tokens. The model may be any; it is never loaded here.

    Raises:
        Refused: if nothing was recorded there, or something else than a reference.
    """

    def __init__(self, folder: str) -> None:
        self.store = _open(folder)
        if not self.store.exists:
            raise refused(
                "{reference_store} is {folder!r}, where nothing was recorded yet: fill it with `sstoken record --as "
                "reference --model MODEL`, which takes the other options of the training too.",
                folder=folder,
            )
        _require_reference(self.store)

    def attach(self, run: TrainingRun) -> None:
        """Raises:
        Refused: if it was recorded with another tokenizer.
        """
        assert self.store.made_by is not None
        _require_tokenizer(self.store, run)

    def lookup(self) -> Lookup:
        return StoreLookup(self.store, VALUES, N_MISSING)

    def log_probs(self, batch: MicroBatch) -> Tensor:
        """(B, S) float32 on the batch's device, 0 off the response.

        Raises:
            Refused: if any sample was not recorded, because the model that could score it is not here.
        """
        inputs: Mapping[str, Any] = batch.inputs
        if VALUES not in inputs:
            self.lookup()(found := dict(inputs))
            inputs = found
        if inputs[N_MISSING]:
            raise refused(
                "{n} samples of a micro-batch are not in {reference_store} {folder}, and the model that recorded it "
                "is not loaded in training: run `sstoken record --as reference` again, with the options of this "
                "training.",
                n=inputs[N_MISSING],
                folder=self.store.folder,
            )
        values: Tensor = inputs[VALUES]
        return values.to(batch.documents.ids.device)

    def identity(self) -> dict[str, Any]:
        return {"store_made_by": self.store.made_by}


class ReferenceRecording:
    """What a `Recorder` fills from the model that is loaded: the store of a reference.

    Args:
        folder: of the store; made if it is not there.
    """

    def __init__(self, folder: str, model: nn.Module, run: TrainingRun) -> None:
        self.store = _open(folder)
        self._made_by = {"role": ROLE, **made_by(model, run, None)}
        if self.store.exists:
            _require_reference(self.store)
            _require_tokenizer(self.store, run)
            self._require_same()

    def begin(self) -> None:
        """Makes the store, unless it is there."""
        if self.store.made_by is None:
            try:
                self.store.create(self._made_by)
            except (StoreError, OSError) as error:
                raise refused("{reference_store}: {error}", error=error) from error

    def refresh(self) -> None:
        """Takes in what other processes have recorded."""
        self.store.refresh()

    def active(self, model: nn.Module) -> AbstractContextManager[None]:
        """The model is recorded as it is."""
        return contextlib.nullcontext()

    def _require_same(self) -> None:
        try:
            self.store.require(self._made_by)
        except StoreError as error:
            raise refused("{reference_store}: {error}", error=error) from error


def _open(folder: str) -> DiskStore:
    try:
        return DiskStore(Path(folder).expanduser())
    except StoreError as error:
        raise refused("{reference_store}: {error}", error=error) from error


def _require_reference(store: DiskStore) -> None:
    assert store.made_by is not None
    if store.made_by.get("role") != ROLE:
        raise refused(
            "{reference_store} is {folder!r}, which holds the recorded history of a training and not a reference: "
            "set it to a folder that `sstoken record --as reference` filled, or fill another one.",
            folder=str(store.folder),
        )


def _require_tokenizer(store: DiskStore, run: TrainingRun) -> None:
    assert store.made_by is not None
    if store.made_by.get("tokenizer") != run.tokenizer:
        raise refused(
            "{reference_store} {folder!r} was recorded with the tokenizer {theirs}, but this run has {ours}: token by "
            "token, only models with the same tokenizer can be compared. Record a reference that has it.",
            folder=str(store.folder),
            theirs=_short(store.made_by.get("tokenizer")),
            ours=_short(run.tokenizer),
        )


def _short(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else f"{fingerprint[:12]}..."
