"""Which documents a batch has, and where their response tokens are: on the host, where stores are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from .documents import Documents
from .hashing import document_keys, mix

MISSING = float("nan")
"""Stands where no value is known."""
INDEX = "sstoken_index"
"""Under this name a batch carries its index, if its data loader made one."""
ROWS = "sstoken_rows"
"""Under this name a batch carries (B,) int64 hashes of what belongs to each row beside tokens, such as pictures."""


@dataclass(frozen=True)
class BatchIndex:
    """The documents of a batch that have response tokens, D of them, with T response tokens in all. On the CPU.

    Attributes:
        keys: (D,) int64, see `document_keys`.
        lengths: (D,) int64, response tokens of each.
        tokens: (T,) int64, their indices in the flattened batch, document by document.
        shape: (B, S).
        indices: `tokens`, on the device that the batch is on.
    """

    keys: Tensor
    lengths: Tensor
    tokens: Tensor
    shape: tuple[int, ...]
    indices: Tensor

    @classmethod
    def carried_by(cls, inputs: Mapping[str, Any]) -> BatchIndex | None:
        """What the data loader made of the batch, if it did."""
        index = inputs.get(INDEX)
        # A data loader that hands slices of its batches to several processes can't cut the index.
        return index if index is not None and index.shape == tuple(inputs["labels"].shape) else None

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> BatchIndex:
        """The index that the batch carries, or made now, which forces a sync of the device that the batch is on."""
        if (index := cls.carried_by(inputs)) is not None:
            return index
        names = ("input_ids", "labels", "attention_mask", "position_ids")
        batch = {name: inputs[name].cpu() for name in names if inputs.get(name) is not None}
        documents = Documents.from_batch(batch)
        n_response = documents.n_response
        some = n_response > 0
        tokens = documents.response_indices  # documents are numbered along them, so this is document by document
        keys, lengths = document_keys(batch["input_ids"], batch["labels"], documents)[some], n_response[some]
        if (rows := _rows(inputs)) is not None:
            first = tokens[lengths.cumsum(0) - lengths]
            keys = mix(keys + mix(rows[first // batch["labels"].shape[1]]))
        return cls(
            keys=keys,
            lengths=lengths,
            tokens=tokens,
            shape=tuple(batch["labels"].shape),
            indices=tokens.to(inputs["labels"].device),
        )

    # Data loaders and trainers call these on whatever a batch holds.

    def to(self, device: Any, non_blocking: bool = False) -> Self:
        return replace(self, indices=self.indices.to(device, non_blocking=non_blocking))

    def pin_memory(self, device: Any = None) -> Self:
        return replace(self, indices=self.indices.pin_memory())

    def __len__(self) -> int:
        return len(self.keys)

    def gather(self, values: Tensor) -> Tensor:
        """The response tokens of (B, S) `values`: (T,)."""
        return values.flatten()[self.tokens]

    def scatter(self, values: Tensor) -> Tensor:
        """(T,) values where their tokens are: (B, S), 0 off the response."""
        batch = values.new_zeros(self.shape)
        batch.view(-1)[self.tokens] = values
        return batch

    def fill(self, values: Tensor, found: Tensor) -> Tensor:
        """Values of the found documents alone, in order, to those of all: (T,), MISSING on the others."""
        full = torch.full((len(self.tokens),), MISSING)
        full[found.repeat_interleave(self.lengths)] = values
        return full


def _rows(inputs: Mapping[str, Any]) -> Tensor | None:
    """What tells equal tokens in different rows apart; None if nothing but tokens belongs to them.

    Without the data loader's word, pictures are told apart by all of the batch: then a store finds nothing in another
    batch, but never what was said of another picture.
    """
    if (rows := inputs.get(ROWS)) is not None:
        found: Tensor = rows.cpu()
        return found
    pixels = [value for name, value in sorted(inputs.items()) if name.startswith("pixel_values")]
    if not pixels:
        return None
    digest = hashlib.sha256()
    for value in pixels:
        digest.update(torch.as_tensor(value).detach().cpu().float().contiguous().numpy().tobytes())
    one = int.from_bytes(digest.digest()[:8], "big", signed=True)
    return torch.full((inputs["labels"].shape[0],), one, dtype=torch.int64)
