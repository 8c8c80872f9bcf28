"""Fills the store of a recorded history, batch by batch, before the first step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..data import IGNORE_INDEX, OWN_ENTRIES, BatchIndex, Documents, MicroBatch
from ..errors import refused
from ..histories.recorded import RecordedHistory
from ..histories.reference import ReferenceRecording
from ..measure import Passes
from ..measure.unprompted import without_prompts

# Documents scored a second time, alone, to see how much the batch matters.
NOISE_DOCUMENTS = 8


class Recorder:
    """Adds what a store lacks.

    Args:
        history: what is recorded: a history, or a reference.
        without_prompts: whether answers are recorded without their prompts too.
    """

    def __init__(self, history: RecordedHistory | ReferenceRecording, without_prompts: bool) -> None:
        self.history = history
        self._without_prompts = without_prompts
        self._measured = False

    @property
    def copies(self) -> int:
        """How many times an answer is recorded."""
        return 2 if self._without_prompts else 1

    def record(self, passes: Passes, batch: MicroBatch) -> int:
        """Records a batch, while the model still is what it was.

        Returns:
            How many documents were new.
        """
        self.history.begin()
        n_new = self._add(passes, batch)
        if self._without_prompts:
            self._add(passes, without_prompts(batch).batch)
        return n_new

    def _add(self, passes: Passes, batch: MicroBatch) -> int:
        store, index = self.history.store, batch.index
        new = store.lacks(index)
        if new.any():
            log_probs = index.gather(self._score(passes, batch))
            if not self._measured:
                self._measured = True
                store.measured_noise = self._noise(passes, batch, log_probs)
            tokens = new.repeat_interleave(index.lengths)
            store.add(index.keys[new], index.lengths[new], log_probs[tokens])
        return int(new.sum())

    def _score(self, passes: Passes, batch: MicroBatch) -> Tensor:
        with self.history.active(passes.model):
            log_probs = passes.log_probs(batch)
        if not torch.isfinite(log_probs).all():
            raise refused(
                "The history model's log-probability of a token is not finite: nothing can be compared with it. Try "
                "bfloat16 instead of float16."
            )
        return log_probs.cpu()

    def _noise(self, passes: Passes, batch: MicroBatch, log_probs: Tensor) -> float:
        """How far log-probabilities move when they are scored in a batch of another shape: the 99th percentile.

        The first documents are scored alone; where not only tokens belong to them, the whole batch with some padding.
        """
        if any(name.startswith("pixel_values") for name in batch.inputs):
            again = batch.index.gather(self._score(passes, _padded(batch))[:, : batch.labels.shape[1]])
            return float((again - log_probs).abs().quantile(0.99))
        ids = Documents.from_batch(batch.inputs).ids
        alone = []
        for number in sorted(set(ids.flatten()[batch.index.tokens.to(ids.device)].tolist()))[:NOISE_DOCUMENTS]:
            tokens = ids == number
            one = {name: batch.inputs[name][tokens][None] for name in ("input_ids", "labels")}
            alone.append(BatchIndex.of(one).gather(self._score(passes, MicroBatch.of(one))))
        again = torch.cat(alone)
        return float((again - log_probs[: len(again)]).abs().quantile(0.99))


def _padded(batch: MicroBatch) -> MicroBatch:
    """The same with padding behind every row."""
    fill = {"labels": IGNORE_INDEX}
    inputs: dict[str, Any] = {}
    for name, value in batch.inputs.items():
        if name.startswith(OWN_ENTRIES):
            continue
        if isinstance(value, Tensor) and value.shape == batch.labels.shape:
            value = torch.nn.functional.pad(value, (0, NOISE_DOCUMENTS), value=fill.get(name, 0))
        inputs[name] = value
    return MicroBatch.of(inputs)
