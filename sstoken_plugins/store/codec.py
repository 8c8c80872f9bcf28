"""18 bits for a log-probability: 2.25 bytes.

    code = round(2**15 * sqrt(-log_prob)),  log_prob = -(code / 2**15)**2

The square root spends the precision where tokens are: the error is below 3.1e-5 * sqrt(-log_prob) nats. Half of a
16-bit float's 16 bits would go to exponents and a sign that log-probabilities do not have; in 16 bits of any kind the
order of two tokens of similar excess loss changes too often.

A document's block is its codes' upper 16 bits, two bytes for each token (little-endian), then the lower 2 bits of four
tokens to a byte.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE = 1 << 15
LARGEST_CODE = (1 << 18) - 1
SMALLEST_LOG_PROB = -((LARGEST_CODE / SCALE) ** 2)
"""-63.9995: what is less likely counts as this."""


def resolution(log_probs: Tensor) -> Tensor:
    """Distance to the next value that can be told apart, in nats; same shape."""
    return 2 / SCALE * (-log_probs).clamp(min=0).sqrt() + 1 / SCALE**2


def block_sizes(lengths: Tensor) -> Tensor:
    """Bytes of a document's block, from its number of response tokens."""
    return 2 * lengths + (lengths + 3) // 4


def stored_bytes(n_documents: int, n_response: int) -> int:
    """Of so many documents with so many response tokens in all, their keys and lengths included."""
    return 12 * n_documents + 2 * n_response + (n_response + 3 * n_documents) // 4


def encode(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Blocks of documents, one behind the other.

    Args:
        log_probs: (T,) float32, document by document.
        lengths: (D,) int64, response tokens of each document, T in all.

    Returns:
        uint8, `block_sizes(lengths).sum()` of them.
    """
    # In double precision: float32's root alone would be off by more than a hundredth of a code.
    codes = (SCALE * (-log_probs.double()).clamp(min=0).sqrt()).round().clamp(max=LARGEST_CODE).int()
    upper, lower, shift = _indices(_starts(block_sizes(lengths)), lengths)
    blocks = torch.zeros(int(block_sizes(lengths).sum()), dtype=torch.int32)
    blocks[upper] = (codes >> 2) & 0xFF
    blocks[upper + 1] = codes >> 10
    blocks.index_add_(0, lower, (codes & 3) << shift)  # four tokens share a byte, and no bit of it
    return blocks.to(torch.uint8)


def decode(blocks: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """Log-probabilities of some documents, one behind the other.

    Args:
        blocks: uint8, may be memory-mapped; only what is asked for is read.
        starts: (D,) int64, where the block of each document begins.
        lengths: (D,) int64.

    Returns:
        (T,) float32.
    """
    upper, lower, shift = _indices(starts, lengths)
    codes = (blocks[upper].int() << 2) | (blocks[upper + 1].int() << 10) | ((blocks[lower].int() >> shift) & 3)
    return -((codes.double() / SCALE) ** 2).float()


def _indices(starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of every token: the index of its first byte, the index of its lower bits, and their shift in that byte."""
    within = torch.arange(int(lengths.sum())) - _starts(lengths).repeat_interleave(lengths)
    start = starts.repeat_interleave(lengths)
    lower = start + 2 * lengths.repeat_interleave(lengths) + within // 4
    return start + 2 * within, lower, (2 * (within % 4)).int()


def _starts(sizes: Tensor) -> Tensor:
    return sizes.cumsum(0) - sizes
