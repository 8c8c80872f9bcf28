"""Which samples share a row, and which rows share a pass."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch

from sstoken_plugins import Documents, token_forward

ROW_TOKENS = 512
"""Of a packed row where attention computes a mask: its cost grows with the square, and longer rows were slower."""
SAME, SAME_IN_HALF = 1e-3, 0.25
"""Nats by which a sample may differ alone and packed, in float32 and below."""

Rows: TypeAlias = list[list[int]]
"""The rows of one pass: numbers of the samples in each, one behind the other."""


def padded(lengths: Sequence[int], batch_tokens: int) -> Iterator[Rows]:
    """One sample in each row, longest first; a pass has at most `batch_tokens`, padding included, or one sample."""
    batch: Rows = []
    longest = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * longest > batch_tokens:
            yield batch
            batch = []
        if not batch:
            longest = lengths[i]
        batch.append([i])
    if batch:
        yield batch


def packed(lengths: Sequence[int], row_tokens: int, batch_tokens: int) -> Iterator[Rows]:
    """Several samples in each row of at most `row_tokens`, or one: the longest first, each into the first row with
    room. A pass has at most `batch_tokens`, or one row."""
    rows: Rows = []
    used: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((row for row, tokens in enumerate(used) if tokens + lengths[i] <= row_tokens), None)
        if row is None:
            rows.append([i])
            used.append(lengths[i])
        else:
            rows[row].append(i)
            used[row] += lengths[i]
    for together in padded(used, batch_tokens):
        yield [rows[row] for (row,) in together]


def row_tokens(model: Any, batch_tokens: int) -> int:
    """How long packed rows should be: attention without a mask computes each sample by itself, and wants one row."""
    masked = "flash" not in str(getattr(model.config, "_attn_implementation", ""))
    return min(ROW_TOKENS, batch_tokens) if masked else batch_tokens


@torch.no_grad()
def keeps_samples_apart(model: Any) -> bool:
    """Whether the model computes a sample in a packed row as it does alone.

    Attention can tell samples apart by their positions; recurrent layers and convolutions often cannot. So the model
    is asked: two samples in a row, then the same with another first one. The second has to stay what it was, and what
    it is alone.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return False
    vocabulary = int(model.config.get_text_config().vocab_size)
    one, other, sample = torch.randint(vocabulary, (3, 12), generator=torch.Generator().manual_seed(0))

    def of_last(*samples: torch.Tensor) -> torch.Tensor:
        ids = torch.cat(samples)[None].to(model.device)
        positions = torch.cat([torch.arange(len(each)) for each in samples])[None].to(model.device)
        inputs = {"input_ids": ids, "labels": ids, "position_ids": positions}
        log_probs = token_forward(model, inputs, Documents.from_batch(inputs), statistics={}).log_probs
        return log_probs[0, -len(sample) :]

    behind_one, behind_other, alone = of_last(one, sample), of_last(other, sample), of_last(sample)
    exact = all(parameter.dtype == torch.float32 for parameter in model.parameters())
    exact &= not torch.is_autocast_enabled(model.device.type)
    return torch.equal(behind_one, behind_other) and bool(
        ((behind_one - alone).abs() <= (SAME if exact else SAME_IN_HALF)).all()
    )
