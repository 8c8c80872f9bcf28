"""Documents with made-up log-probabilities, and stores that hold them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from sstoken_plugins import BatchIndex
from sstoken_plugins.store import DiskStore, MemoryStore

MADE_BY = {"model": "m", "adapter": None, "tokenizer": "t", "precision": "float32, autocast no"}


def documents(n: int, seed: int = 0) -> list[tuple[list[int], list[int], list[float]]]:
    """Token ids, labels and log-probabilities of some documents."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(n):
        prompt, response = torch.randint(1, 30, (2,), generator=generator).tolist()
        ids = torch.randint(0, 5000, (prompt + response,), generator=generator)
        log_probs = -(torch.rand(response, generator=generator) ** 3) * 30
        made.append((ids.tolist(), [-100] * prompt + ids[prompt:].tolist(), [0.0] * prompt + log_probs.tolist()))
    return made


def padded(rows, side: str = "right") -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    longest = max(len(ids) for ids, _, _ in rows)

    def pad(values, value):
        empty = [value] * (longest - len(values))
        return empty + values if side == "left" else values + empty

    batch = {
        "input_ids": torch.tensor([pad(ids, 0) for ids, _, _ in rows]),
        "labels": torch.tensor([pad(labels, -100) for _, labels, _ in rows]),
        "attention_mask": torch.tensor([pad([1] * len(ids), 0) for ids, _, _ in rows]),
    }
    return batch, torch.tensor([pad(values, 0.0) for _, _, values in rows])


def packed(rows) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    batch = {
        "input_ids": torch.tensor([[token for ids, _, _ in rows for token in ids]]),
        "labels": torch.tensor([[label for _, labels, _ in rows for label in labels]]),
        "position_ids": torch.tensor([[place for ids, _, _ in rows for place in range(len(ids))]]),
    }
    return batch, torch.tensor([[value for _, _, values in rows for value in values]])


def fill(store, rows) -> None:
    batch, log_probs = padded(rows)
    index = BatchIndex.of(batch)
    put = store.put if isinstance(store, MemoryStore) else store.add
    put(index.keys, index.lengths, index.gather(log_probs))


def made(folder: Path, rows, made_by=MADE_BY) -> DiskStore:
    store = DiskStore(folder)
    if not store.exists:
        store.create(made_by)
    fill(store, rows)
    store.flush()
    return store


def one_file(store: Path) -> Path:
    return sorted(store.glob("*.safetensors"))[0]


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0b100
    path.write_bytes(content)


def edit_manifest(store: Path, **changes) -> None:
    content = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**content, **changes}))
