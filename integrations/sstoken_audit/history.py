"""The store of history `recorded`: what is known there need not be scored, and what is scored is left there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sstoken_plugins import TrainingRun
from sstoken_plugins.data import IGNORE_INDEX, BatchIndex
from sstoken_plugins.errors import Refused
from sstoken_plugins.histories.recorded import RecordedHistory, RecordedOptions
from sstoken_plugins.store import StoreError
from sstoken_transformers.tokenizer import fingerprint

from .errors import AuditError
from .rows import RowScores
from .samples import Tokens
from .scorer import Scorer

NOISE_SAMPLES = 8
"""Scored a second time, each alone, to see how much it matters which others are in the pass."""


class HistoryStore:
    """Log-probabilities of the training data, by the tokens of each sample, in the folder that a training with history
    `recorded` reads.

    Args:
        folder: made when something is added.
        autocast: as `Scorer` takes it.

    Raises:
        AuditError: if the store is damaged, or was made with another model, tokenizer or precision.
    """

    def __init__(self, folder: Path, model: Any, tokenizer: Any, autocast: str = "no") -> None:
        try:
            self._history = RecordedHistory(RecordedOptions(history_store=str(folder), history_record=True))
            self._history.attach(model, TrainingRun(precision=autocast, tokenizer=fingerprint(tokenizer)))
        except (Refused, StoreError) as error:
            raise AuditError(f"--history {folder}: {error}") from error
        self._store = self._history.store

    def __len__(self) -> int:
        return len(self._store)

    def known(self, samples: Sequence[Tokens]) -> list[np.ndarray | None]:
        """Log-probabilities of each sample's response tokens, (n_response,) float32; None where there are none."""
        found: list[np.ndarray | None] = []
        for sample in samples:
            values, n_missing = self._store.get(index := _index(sample))
            found.append(None if n_missing or not len(index) else values.numpy())
        return found

    def add(self, samples: Sequence[Tokens], scores: Sequence[np.ndarray]) -> None:
        """Adds what the store lacks, in the order of the samples."""
        self._history.begin()
        for sample, values in zip(samples, scores, strict=True):
            index = _index(sample)
            if self._store.lacks(index).any():
                self._store.add(index.keys, index.lengths, torch.from_numpy(np.array(values, np.float32)))

    def measure_noise(self, scorer: Scorer, scored: Sequence[tuple[Tokens, RowScores]]) -> None:
        """How far log-probabilities move when a sample is scored alone, the 99th percentile: the training compares its
        own with these, and takes what is below for equal."""
        if self._store.noise or not scored:
            return
        some = scored[:NOISE_SAMPLES]
        alone = [scorer.score([sample], entropy=False)[0].log_probs for sample, _ in some]
        moved = [np.abs(one - row.log_probs) for one, (_, row) in zip(alone, some, strict=True)]
        self._store.measured_noise = float(np.quantile(np.concatenate(moved), 0.99))

    def flush(self) -> None:
        """Writes what was added."""
        self._store.flush()


def _index(sample: Tokens) -> BatchIndex:
    """Of a batch with this sample alone, as the training's collator would give it."""
    ids = torch.from_numpy(sample.ids).long()
    labels = torch.where(torch.from_numpy(sample.response), ids, IGNORE_INDEX)
    return BatchIndex.of({"input_ids": ids[None], "labels": labels[None]})
