"""Random layouts against a reference that takes one document at a time, in Python loops."""

from __future__ import annotations

import random

import pytest
import torch

from sstoken_plugins import select_tokens

from ..core.oracle import select


def laid_out(rng: random.Random) -> dict[str, torch.Tensor]:
    """A batch: padded on either side, packed with positions or a numbered mask, or padding-free; of several turns."""
    layout = rng.choice(["right", "left", "positions", "numbered", "padding-free"])
    n = rng.randint(1, 6)
    documents = []
    for _ in range(n):
        turns = [rng.randint(0, 12) for _ in range(rng.randint(1, 4))]
        labelled = [number for turn, size in enumerate(turns) for number in [turn % 2] * size] or [0]
        if rng.random() < 0.1:
            labelled = [1] * len(labelled)  # its first token has a label, and nothing predicts it
        documents.append(labelled)
    if layout in ("right", "left"):
        width = max(map(len, documents)) + rng.randint(0, 3)
        rows = []
        for document in documents:
            padding = [None] * (width - len(document))
            rows.append(padding + document if layout == "left" else document + padding)
        labels = [[5 if each else -100 for each in row] for row in rows]
        mask = [[int(each is not None) for each in row] for row in rows]
        return {"labels": torch.tensor(labels), "attention_mask": torch.tensor(mask)}
    tail = rng.randint(0, 5) if layout != "padding-free" else 0
    labels = [5 if each else -100 for document in documents for each in document] + [-100] * tail
    batch = {"labels": torch.tensor([labels])}
    if layout == "numbered":
        mask = [number + 1 for number, document in enumerate(documents) for _ in document] + [0] * tail
        return {**batch, "attention_mask": torch.tensor([mask])}
    positions = [place for document in documents for place in range(len(document))] + list(range(tail))
    return {**batch, "position_ids": torch.tensor([positions])}


@pytest.mark.parametrize("tokens", [10_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(3600)
def test_no_token_is_selected_differently(ledger, tokens):
    rng, generator = random.Random(tokens), torch.Generator().manual_seed(tokens)
    seen = 0
    while seen < tokens:
        batch = laid_out(rng)
        shape = batch["labels"].shape
        seen += batch["labels"].numel()
        log_probs, history = (-torch.rand(shape, generator=generator) * 9 for _ in range(2))
        attention = torch.rand(shape, generator=generator)
        if rng.random() < 0.2:  # ties
            log_probs, history, attention = log_probs.round(), history.round(), attention.round()
        rho, gamma = rng.choice([0.1, 0.5, 0.55, 0.6, 1.0]), rng.choice([0.0, 0.3, 0.5, 1.0])
        known = {"log_probs": log_probs, "history_log_probs": history, "attention": attention}
        found = select_tokens(**batch, **known, rho=rho, gamma=gamma)
        labels, *rest = (batch.get(name) for name in ("labels", "attention_mask", "position_ids"))
        expected = select(labels, log_probs - history, attention, rho, gamma, *rest)
        ledger.trial(f"layout ({tokens:,} tokens)", (batch, rho, gamma), lambda found=found: found,
                     lambda kept, expected=expected: torch.equal(kept, expected))  # fmt: skip
