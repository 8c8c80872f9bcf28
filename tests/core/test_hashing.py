"""What a document is known by: all that is in it, and nothing else."""

from __future__ import annotations

import torch

from sstoken_plugins import Documents
from sstoken_plugins.data.hashing import document_keys, mix

from .layouts import LAYOUTS, documents, laid_out


def keys_of(batch) -> torch.Tensor:
    found = Documents.from_batch(batch)
    return document_keys(batch["input_ids"], batch["labels"], found)[found.n_response > 0]


def test_all_64_bits_of_a_key_count():
    """A shift that copies the sign left the highest bit 0: half of all keys were never used."""
    n = 4000
    ids = torch.randint(0, 50_000, (n, 9), generator=torch.Generator().manual_seed(0))
    labels = torch.where(torch.arange(9) < 4, -100, ids)
    keys = keys_of({"input_ids": ids, "labels": labels})
    assert len(keys.unique()) == n
    for bit in range(64):
        share = ((keys >> bit) & 1).float().mean().item()
        assert abs(share - 0.5) < 5 * 0.5 / n**0.5, bit


def test_mixing_is_that_of_splitmix64():
    """Known values of the finaliser, from its definition on unsigned integers."""

    def naive(x: int) -> int:
        mask = (1 << 64) - 1
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    for x in [0, 1, 2, 12345, 2**63 - 1, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15]:
        signed = x - (1 << 64) if x >= 1 << 63 else x
        assert mix(torch.tensor(signed)).item() % (1 << 64) == naive(x)


def test_keys_are_the_same_in_every_layout():
    expected = keys_of(laid_out("right"))
    assert len(expected) == len(documents())
    for layout in LAYOUTS:
        assert torch.equal(keys_of(laid_out(layout)), expected)


def test_other_labels_on_the_same_tokens_are_another_document():
    batch = laid_out("right")
    expected = keys_of(batch)
    other = {**batch, "labels": batch["labels"].clone()}
    row = 1
    first = int((other["labels"][row] != -100).nonzero()[0])
    other["labels"][row, first] = -100  # one token less to learn
    relabelled = {**batch, "labels": batch["labels"].clone()}
    relabelled["labels"][row, first] += 1  # and another one to learn in its place
    for changed in (other, relabelled):
        assert (keys_of(changed) != expected).tolist() == [i == row for i in range(len(expected))]
