"""Weights that come with the data: a number for each sample, each turn, or each token."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import refused
from .documents import Documents
from .index import BatchIndex

WEIGHTS = "sstoken_weights"
"""Under this name a batch carries its weights: (B, S) float32, 1 off the response."""
LARGEST_WEIGHT = 1e4
"""Beside a larger one no other token counts, and gradients overflow."""


class DataWeights:
    """Weights of response tokens, found by the tokens of the document that they belong to.

    So rows may be shuffled, packed and cut into batches as the training likes.

        weights = DataWeights()
        weights.add("row 7", batch_of_one, [1.0, 0.0])     # its two turns
        weights(batch)                                     # adds the entry `WEIGHTS` to a batch
    """

    def __init__(self) -> None:
        self._weights: dict[int, Tensor] = {}
        self._rows: dict[int, str] = {}
        self.negative: str | None = None
        """A row that has a weight below 0, if any has."""

    def __len__(self) -> int:
        return len(self._weights)

    def add(
        self, row: str, inputs: Mapping[str, Any], numbers: float | Sequence[float], was_cut: bool = False
    ) -> None:
        """Adds the weights of a sample.

        Args:
            row: how errors call it.
            inputs: a batch of this sample alone.
            numbers: one for the sample, one for each run of labelled tokens (a turn), or one for each of them.
            was_cut: whether the end of the sample may be missing, and with it what the last numbers are for.

        Raises:
            Refused: if they are not finite, larger than `LARGEST_WEIGHT`, do not fit the sample, or contradict those
                of an equal one.
        """
        index = BatchIndex.of(inputs)
        if not len(index):
            return  # nothing of it trains
        if len(index) > 1:
            raise refused("{row} was cut into {n} documents, which its weights cannot follow.", row=row, n=len(index))
        weights = self._expand(row, Documents.from_batch(inputs), numbers, was_cut)
        key = int(index.keys[0])
        known = self._weights.setdefault(key, weights)
        if not torch.equal(known, weights):
            raise refused(
                "{row} has the same tokens as {other}, but other weights: make them equal, or remove one.",
                row=row,
                other=self._rows[key],
            )
        self._rows.setdefault(key, row)
        if self.negative is None and (weights < 0).any():
            self.negative = row

    def update(self, other: DataWeights) -> None:
        """Takes in those of another data set.

        Raises:
            Refused: if they contradict.
        """
        for key, weights in other._weights.items():
            if not torch.equal(self._weights.setdefault(key, weights), weights):
                raise refused(
                    "{row} of one data set has the same tokens as {other} of another, but other weights: make them "
                    "equal, or remove one.",
                    row=other._rows[key],
                    other=self._rows[key],
                )
            self._rows.setdefault(key, other._rows[key])
        self.negative = self.negative or other.negative

    def __call__(self, batch: MutableMapping[str, Any]) -> None:
        """Adds the weights to a training batch, on the host.

        Raises:
            Refused: for a document that has none.
        """
        index = BatchIndex.of(batch)
        found = []
        for key, length in zip(index.keys.tolist(), index.lengths.tolist(), strict=True):
            weights = self._weights.get(key)
            if weights is None or len(weights) != length:
                raise refused(
                    "A training sample of {n} response tokens has no weights: it is not one of the {known} that "
                    "weights were read for. Was it cut or changed after they were read? Set {weights} to None, or "
                    "keep samples whole (a larger maximum length, packing that does not split).",
                    n=length,
                    known=len(self),
                )
            found.append(weights)
        scattered = index.scatter(torch.cat(found) - 1 if found else torch.zeros(0))
        batch[WEIGHTS] = scattered + 1

    def _expand(self, row: str, documents: Documents, numbers: float | Sequence[float], was_cut: bool) -> Tensor:
        """(n_response,) float32."""
        response = documents.response[0]
        n_tokens = int(response.sum())
        starts = response & ~torch.nn.functional.pad(response, (1, 0))[:-1]
        turn = (starts.cumsum(0) - 1)[response]
        n_turns = int(starts.sum())
        try:
            values = torch.tensor(
                [numbers] if isinstance(numbers, int | float) else list(numbers), dtype=torch.float32
            )
        except (TypeError, ValueError, OverflowError):
            values = torch.tensor([torch.nan])
        if isinstance(numbers, bytes | Mapping) or values.dim() != 1 or not (values.abs() <= LARGEST_WEIGHT).all():
            raise refused(
                "{row} has weights {numbers!r:.200}: finite numbers are needed, from {least:g} to {largest:g}.",
                row=row,
                numbers=numbers,
                least=-LARGEST_WEIGHT,
                largest=LARGEST_WEIGHT,
            )
        if len(values) == 1 and isinstance(numbers, int | float):
            return values.expand(n_tokens).clone()
        if len(values) == n_turns or (was_cut and n_turns <= len(values) < n_tokens):
            return values[turn]
        if len(values) == n_tokens or (was_cut and len(values) > n_tokens):
            return values[:n_tokens]
        raise refused(
            "{row} has {n} weights, but {turns} trained turns with {tokens} response tokens in all: give one number "
            "for the sample, one for each turn that trains, or one for each response token.",
            row=row,
            n=len(values),
            turns=n_turns,
            tokens=n_tokens,
        )
