"""Numbers that follow from a document's content alone: equal for any packing, batch size, order and device."""

from __future__ import annotations

import torch
from torch import Tensor

from .documents import Documents


def mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser, elementwise on int64, whose arithmetic wraps around on every device."""
    x = (x ^ _shifted(x, 30)) * -4658895280553007687
    x = (x ^ _shifted(x, 27)) * -7723592293110705685
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Right by so many bits, with zeros from the left: `>>` alone would copy the sign into them."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix_int(x: int) -> int:
    return int(mix(torch.tensor(x + 0x1E3779B97F4A7C15)).item())


def document_keys(input_ids: Tensor, labels: Tensor, documents: Documents) -> Tensor:
    """What a document is known by: a hash of its tokens, in order, and of the labels of its response.

    Args:
        input_ids: (B, S) int64.
        labels: (B, S) int64.

    Returns:
        (B*S,) int64, indexed by document number. All 64 bits count: among a million documents, the chance that any
        two share a key is 3e-8.
    """
    content = mix(input_ids + mix(torch.where(documents.response, labels + 1, 0)))
    tokens = mix(content + mix(documents.positions + mix_int(0)))
    return mix(total_per_document(tokens, documents))


def total_per_document(values: Tensor, documents: Documents) -> Tensor:
    """Sum of int64 `values` (B, S) over all tokens of each document, prompt included: (B*S,)."""
    values = torch.where(documents.ids >= 0, values, 0).flatten()
    return torch.zeros_like(values).index_add_(0, documents.ids.clamp(min=0).flatten(), values)
