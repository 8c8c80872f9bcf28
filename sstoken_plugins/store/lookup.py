"""Which documents a batch has, and where their response tokens are: on the host, where stores are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..documents import Documents
from ..hashing import document_keys
from .codec import MISSING


@dataclass(frozen=True)
class BatchIndex:
    """The documents of a batch that have response tokens, D of them, with T response tokens in all. On the CPU.

    Attributes:
        keys: (D,) int64, see `document_keys`.
        lengths: (D,) int64, response tokens of each.
        tokens: (T,) int64, their places in the flattened batch, document by document.
        shape: (B, S).
    """

    keys: Tensor
    lengths: Tensor
    tokens: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> BatchIndex:
        """Reads a batch as the collator gives it. Waits for the device if the batch is on one."""
        names = ("input_ids", "labels", "attention_mask", "position_ids")
        batch = {name: inputs[name].cpu() for name in names if inputs.get(name) is not None}
        documents = Documents.from_batch(batch)
        n_response = documents.n_response
        some = n_response > 0
        return cls(
            keys=document_keys(batch["input_ids"], documents)[some],
            lengths=n_response[some],
            # Documents are numbered along the flattened batch, so this is document by document.
            tokens=documents.response.flatten().nonzero()[:, 0],
            shape=tuple(batch["labels"].shape),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def gather(self, values: Tensor) -> Tensor:
        """The response tokens of (B, S) `values`: (T,)."""
        return values.flatten()[self.tokens]

    def scatter(self, values: Tensor) -> Tensor:
        """(T,) values in their places: (B, S), 0 off the response."""
        batch = values.new_zeros(self.shape)
        batch.view(-1)[self.tokens] = values
        return batch

    def fill(self, values: Tensor, found: Tensor) -> Tensor:
        """Values of the found documents alone, in order, to those of all: (T,), MISSING on the others."""
        full = torch.full((len(self.tokens),), MISSING)
        full[found.repeat_interleave(self.lengths)] = values
        return full
