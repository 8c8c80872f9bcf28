"""Log-probabilities of an earlier self, computed once before training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import SSTokenConfig
from ..documents import Documents
from ..store import BatchIndex, DiskStore, stored_bytes
from . import LiveHistory, Lookup, TrainingRun
from .adapter import AdapterHistory
from .base import BaseHistory, has_adapter
from .identity import made_by
from .stored import N_MISSING, VALUES, StoredHistory, needs_rel_alone

logger = logging.getLogger(__name__)

# Documents scored a second time, alone, to see how much the batch matters.
NOISE_DOCUMENTS = 8


class RecordedHistory(StoredHistory):
    """The base model or a frozen adapter, read from `history_store`: no forward pass at all.

    Samples are known by their tokens, so the data may be shuffled, filtered, packed or added to. Those that are not in
    the store are scored by the model below the adapter in training, if there is one, and counted in the log.
    """

    knows_any_text = True

    def __init__(self, config: SSTokenConfig) -> None:
        super().__init__(config)
        assert config.history_store is not None  # granted by the configuration
        self.store = DiskStore(Path(config.history_store).expanduser())
        if not self.store.exists and not config.history_record:
            raise ValueError(
                f"`history_store` is {config.history_store!r}, where nothing was recorded yet: fill it with `sstoken "
                "record`, which takes the options of the training, or set `history_record` to True."
            )
        self._live: LiveHistory | None = None
        self._adapter = AdapterHistory(config) if config.history_adapter else None
        self._warned = self._measured = False

    def attach(self, model: Any, run: TrainingRun) -> None:
        self._run = run
        self._made_by = made_by(model, run, self._adapter.fingerprint if self._adapter else None)
        self.store.refresh()  # another process may have begun it since
        if self.store.exists:
            self.store.require(self._made_by)
        self.noise = self.store.noise
        if self._adapter is not None:
            self._live = self._adapter
        elif has_adapter(model):
            self._live = BaseHistory(self.config)
        if self._live is not None:
            self._live.attach(model, run)

    def lookup(self) -> Lookup:
        return _Lookup(self.store)

    def log_probs(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, score: Callable[[], Tensor]
    ) -> Tensor:
        if VALUES not in inputs:
            _Lookup(self.store)(found := dict(inputs))
            inputs = found
        stored: Tensor = inputs[VALUES].to(documents.ids.device)
        missing = documents.response & stored.isnan()
        self._run.record("history_missing", missing.sum(), documents.response.sum())
        if not inputs[N_MISSING]:
            return stored
        self._report(inputs[N_MISSING])
        if self._live is None:
            return stored
        return torch.where(missing, self._live.log_probs(model, inputs, documents, score), stored)

    def log_probs_of_any_text(
        self, model: nn.Module, inputs: Mapping[str, Any], documents: Documents, score: Callable[[], Tensor]
    ) -> Tensor:
        return self.log_probs(model, inputs, documents, score)

    def describe(self) -> Mapping[str, Any]:
        return {"made_by": self._made_by}

    def memory(self, n_documents: int, n_response: int) -> Mapping[str, int]:
        live = self._adapter.memory(n_documents, n_response) if self._adapter else {}
        return {**live, "disk": stored_bytes(n_documents, n_response)}

    # Recording

    def record(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        score: Callable[[Mapping[str, Any]], Tensor],
    ) -> int:
        """Adds what the store lacks of a batch. Before training, where the model still is what it was.

        Args:
            score: as in `History.log_probs`, of the batch it is given.

        Returns:
            How many documents were new.
        """
        if self.store.made_by is None:
            self.store.create(self._made_by)
        index = BatchIndex.of(inputs)
        new = self.store.lacks(index)
        if new.any():
            log_probs = index.gather(self._score(model, inputs, score))
            if not self._measured:
                self._measured = True
                self.store.measured_noise = self._measure(model, inputs, log_probs, index, score)
            tokens = new.repeat_interleave(index.lengths)
            self.store.add(index.keys[new], index.lengths[new], log_probs[tokens])
        return int(new.sum())

    def finish(self) -> None:
        """Writes what is not on disk yet."""
        self.store.flush()

    def refresh(self) -> None:
        """Takes in what other processes have recorded."""
        self.store.refresh()
        self.noise = self.store.noise

    def _score(self, model: nn.Module, inputs: Mapping[str, Any], score: Callable[..., Tensor]) -> Tensor:
        if self._live is None:
            log_probs = score(inputs)
        else:
            log_probs = self._live.log_probs(model, inputs, Documents.from_batch(inputs), lambda: score(inputs))
        if not torch.isfinite(log_probs).all():
            raise FloatingPointError(
                "The history model's log-probability of a token is not finite: nothing can be compared with it. Try "
                "bfloat16 instead of float16."
            )
        return log_probs.cpu()

    def _measure(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        log_probs: Tensor,
        index: BatchIndex,
        score: Callable[[Mapping[str, Any]], Tensor],
    ) -> float:
        """How far the first documents' log-probabilities move when each is scored alone: the 99th percentile."""
        ids = Documents.from_batch(inputs).ids
        alone = []
        for number in sorted(set(ids.flatten()[index.tokens.to(ids.device)].tolist()))[:NOISE_DOCUMENTS]:
            tokens = ids == number
            one = {name: inputs[name][tokens][None] for name in ("input_ids", "labels")}
            alone.append(BatchIndex.of(one).gather(self._score(model, one, score)))
        again = torch.cat(alone)
        return float((again - log_probs[: len(again)]).abs().quantile(0.99))

    def _report(self, n_missing: int) -> None:
        where = f"{n_missing} samples of a micro-batch are not in the store {self.store.folder}"
        record = "Record them: run `sstoken record` again, or set `history_record` to True."
        if self.config.history_strict:
            raise ValueError(f"`history_strict` is True and {where}. {record}")
        if self._live is None and needs_rel_alone(self.config):
            raise ValueError(
                f"{where}, and without an adapter there is no earlier model to score them with, nor anything else to "
                f"choose their tokens by. {record}"
            )
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s (more may follow, see `sstoken/history_missing`): %s %s",
                where,
                "their tokens are chosen without a history."
                if self._live is None
                else "each such micro-batch costs one more forward pass.",
                record,
            )


class _Lookup:
    """Runs in the data loader's workers."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store

    def __call__(self, batch: MutableMapping[str, Any]) -> None:
        index = BatchIndex.of(batch)
        values, n_missing = self._store.get(index)
        batch[VALUES], batch[N_MISSING] = index.scatter(values), n_missing
