"""The published losses on the rows of a trainer, for a test of the gradient that the trainer makes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from . import published

# By method: options that make it choose between these tokens of a tiny model, under which most tokens are unlikely.
CASES: dict[str, dict[str, Any]] = {
    "dft": {},
    "power": {"alpha": 0.3},
    "infosft": {},
    "profit": {"threshold": 0.02},
    "prift": {},
    "stm": {"perplexity": 40.0},
    "eaft": {},
    "deft": {},
    "talr": {"tau": 3.0},
    "flow": {"tau": 4.0},
    "psft": {},
    "iw_sft": {},
    "minor_sft": {},
    "npo": {},
    "memft": {"threshold": 4.0},
}


def documents(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[list[int], list[int]]]:
    """(ids, labels) of each, however the rows are packed."""
    for row in rows:
        ids, labels = list(row["input_ids"]), list(row["labels"])
        for length in row.get("seq_lengths") or [len(ids)]:
            yield ids[:length], labels[:length]
            ids, labels = ids[length:], labels[length:]


def expected_gradient(model: Any, rows: Iterable[Mapping[str, Any]], method: str) -> dict[str, torch.Tensor]:
    """Each document alone, by full logits and autograd; the history is the model below the adapter, or for `psft`,
    whose history is a few steps old, the model as it is before its first step."""
    below = contextlib.nullcontext if method == "psft" else model.disable_adapter
    answers = []
    for tokens, labels in documents(rows):
        ids = torch.tensor([tokens])
        response = [i for i in range(1, len(tokens)) if labels[i] != -100]
        before = [i - 1 for i in response]
        with torch.no_grad(), below():
            past = model(input_ids=ids).logits[0, before]
        answers.append(published.Answer(model(input_ids=ids).logits[0, before], past, ids[0, response]))
    getattr(published, method)(answers, **CASES[method]).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    return gradients


def assert_is_the_step(before: dict[str, Any], after: dict[str, Any], gradients: dict[str, Any]) -> None:
    """A step of plain gradient descent with rate 1 along these gradients."""
    wrong = torch.cat([(before[name] - after[name] - each).flatten() for name, each in gradients.items()])
    right = torch.cat([each.flatten() for each in gradients.values()])
    assert wrong.abs().max() < 1e-6 * max(1, right.abs().max())
    assert wrong.norm() < 1e-5 * right.norm()
