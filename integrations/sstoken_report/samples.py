"""A few training samples, batched by the training's own data loader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sstoken_plugins import Documents, Refused

from .pieces import pieces


class Samples:
    """Documents of a few batches, in the order of the data.

    Args:
        batches: as a collator gives them.
        rows: for each batch, the rows of the data that it is made of, in their order, with the tokens of each.
        processing_class: a tokenizer, or what has one.
        number: how many samples to show at most.

    Attributes:
        batches: those that were given.
        columns: what is known of the tokens before any is scored, see `table.Report`.
    """

    def __init__(
        self,
        batches: Sequence[Mapping[str, Any]],
        rows: Sequence[Sequence[tuple[int, int]]],
        processing_class: Any,
        number: int,
    ) -> None:
        self.batches = [dict(batch) for batch in batches]
        self._masks: list[Tensor] = []
        parts: list[tuple[np.ndarray, ...]] = []
        n_documents = 0
        for batch, made_of in zip(self.batches, rows, strict=True):
            documents = Documents.from_batch(batch)
            mask = (documents.ids >= 0) & (documents.broadcast(documents.n_response) > 0)
            self._masks.append(mask)
            # Documents come in the order of the rows, which may be packed: tokens are counted to find theirs.
            ends = np.cumsum([length for _, length in made_of])
            token = (documents.ids >= 0).flatten().cumsum(0).view_as(documents.ids)[mask].numpy(force=True) - 1
            of_row = np.searchsorted(ends, token, side="right").clip(max=len(made_of) - 1)
            parts.append(
                (
                    np.asarray([place for place, _ in made_of])[of_row],
                    documents.ids[mask].numpy(force=True) + n_documents,
                    batch["input_ids"][mask].numpy(force=True),
                    documents.response[mask].numpy(force=True),
                )
            )
            n_documents += documents.ids.numel()
        row, document, ids, response = (np.concatenate(part) for part in zip(*parts, strict=True))
        self._arrange(row, document, ids, response, number)
        texts = [
            text
            for sample in np.split(self.columns["token_id"], np.flatnonzero(np.diff(self.columns["sample"])) + 1)
            for text in pieces(processing_class, sample.tolist())
        ]
        self.columns["text"] = np.array(texts, dtype=object)

    @classmethod
    def of_training(cls, trainer: Any, loader: Any, number: int) -> Samples:
        """Always the same samples of a training set, as the training batches them.

        They come from the loader's own data set and collator, so whatever tokenises, cuts, masks, packs and looks up
        for training does it here; its sampler is left alone, and no random number is drawn.
        """
        dataset, collate = loader.dataset, loader.collate_fn
        # What fits into a training step fits here; on a CPU, padding costs more than large batches gain.
        batch_size = 1 if trainer.args.device.type == "cpu" else trainer.args.per_device_train_batch_size
        if not hasattr(dataset, "__len__"):
            raise Refused(
                "The training data are a stream, whose samples cannot be looked at without taking them from the "
                "training: load them without streaming."
            )
        chosen = _spread(dataset, number)
        rows = [dataset[index] for index in chosen]
        lengths = [len(row["input_ids"]) for row in rows]
        groups = _groups(lengths, batch_size)
        batches = [collate([dict(rows[i]) for i in group]) for group in groups]
        made_of = [[(chosen[i], lengths[i]) for i in group] for group in groups]
        return cls(batches, made_of, trainer.processing_class, number)

    @classmethod
    def of_batches(cls, batches: Sequence[Mapping[str, Any]], processing_class: Any, number: int) -> Samples:
        """The first samples of some batches; each row of a batch counts as a row of the data."""
        made_of: list[list[tuple[int, int]]] = []
        first = 0
        for batch in batches:
            lengths = (Documents.from_batch(batch).ids >= 0).sum(1).tolist()
            made_of.append([(first + i, length) for i, length in enumerate(lengths)])
            first += len(lengths)
        return cls(batches, made_of, processing_class, number)

    def _arrange(
        self, row: np.ndarray, document: np.ndarray, ids: np.ndarray, response: np.ndarray, number: int
    ) -> None:
        """Brings the tokens of all batches into the order of the data, and cuts after `number` samples."""
        order = np.lexsort((document, row))
        starts = np.diff(document[order], prepend=-1) != 0
        sample = np.cumsum(starts) - 1
        self._order = order[sample < number]
        sample = sample[sample < number]
        first = np.flatnonzero(np.diff(sample, prepend=-1))
        self.columns: dict[str, np.ndarray] = {
            "sample": sample.astype(np.int32),
            "row": row[self._order].astype(np.int32),
            "position": (np.arange(len(sample)) - (first[sample] if len(sample) else 0)).astype(np.int32),
            "token_id": ids[self._order].astype(np.int32),
            "response": response[self._order],
        }

    def __len__(self) -> int:
        sample = self.columns["sample"]
        return int(sample[-1]) + 1 if len(sample) else 0

    def arranged(self, values: Sequence[Tensor]) -> np.ndarray:
        """(B, S) values of each batch, in the order of `columns`."""
        flat = [batch.cpu()[mask.cpu()] for batch, mask in zip(values, self._masks, strict=True)]
        return np.concatenate([part.numpy() for part in flat])[self._order]


def _spread(dataset: Any, number: int) -> list[int]:
    """Rows at equal distances; fewer where a row holds several samples."""

    def every(n: int) -> list[int]:
        n = min(n, len(dataset))
        return [i * len(dataset) // n for i in range(n)]

    rows = every(number)
    packed = [len(dataset[index].get("seq_lengths") or [0]) for index in rows]
    return every(math.ceil(number / (sum(packed) / len(packed)))) if rows else []


def _groups(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices of the batches: the longest first, none with more tokens than `batch_size` of the longest have, and
    little padding."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    groups: list[list[int]] = []
    for i in order:
        longest = lengths[groups[-1][0]] if groups else 0
        fits = groups and (len(groups[-1]) + 1) * longest <= batch_size * lengths[order[0]]
        if fits and lengths[i] >= 0.8 * longest:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
