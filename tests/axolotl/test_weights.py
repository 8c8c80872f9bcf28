"""Weights that come with the data survive Axolotl's prompt strategies, prepared data sets and packing."""

from __future__ import annotations

import json

import pytest
import torch

from .conftest import data, train, write

PLAIN = {"optimizer": "sgd", "learning_rate": 0.1, "micro_batch_size": 24, "max_steps": 1}
PACKED = {"sample_packing": True, "pad_to_sequence_len": True, "sequence_len": 2048, "micro_batch_size": 1}


def weighted(chats, change) -> list[dict]:
    rows = [json.loads(line) for line in chats.read_text().splitlines()]
    for i, row in enumerate(rows):
        for turn, message in enumerate(row["messages"][1::2]):
            message["weight"] = change(i, turn)
    return rows


def trained(trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def moved(settings, path, block, **changes) -> dict[str, torch.Tensor]:
    return trained(train({**settings, "datasets": data(path), **PLAIN, **changes}, sstoken=block))


def test_a_turn_of_weight_0_has_no_influence(settings, chats, adapters, tmp_path):
    """Whatever the last turn says: nothing comes after it, and nothing is learned of it."""
    rows = weighted(chats, lambda i, turn: 1.0)
    for row in rows:
        row["messages"][-1]["weight"] = 0.0
    other = json.loads(json.dumps(rows))
    for row in other:
        row["messages"][-1]["content"] = "w1 w2 w3"
    block = {"strategy": "full", "weights": "weight", "divisor": "samples"}
    settings |= {"lora_model_dir": str(adapters[0])}
    first = moved(settings, write(tmp_path / "a.jsonl", rows), block)
    second = moved(settings, write(tmp_path / "b.jsonl", other), block)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=1e-5)


def test_layouts_agree(settings, chats, adapters, tmp_path):
    rows = weighted(chats, lambda i, turn: float((i + turn) % 4 - 1))
    path = write(tmp_path / "chats.jsonl", rows)
    block = {"strategy": "full", "weights": "weight"}
    settings |= {"lora_model_dir": str(adapters[0])}
    padded = moved(settings, path, block)
    packed = moved(settings, path, block, **PACKED)
    for name, value in padded.items():
        torch.testing.assert_close(packed[name], value, atol=1e-5, rtol=1e-4)
    again = moved(settings, path, block)  # from the prepared data set
    assert all(torch.equal(again[name], value) for name, value in padded.items())


def test_what_does_not_fit_is_refused_by_row(settings, chats, tmp_path):
    rows = [{**row, "turns": [1.0] * (len(row["messages"]) // 2)} for row in weighted(chats, lambda i, turn: 1.0)]
    rows[3]["turns"] = [1.0] * 40
    path = write(tmp_path / "chats.jsonl", rows)
    with pytest.raises(ValueError, match=r"Row 3 of the data has 40 weights, but \d trained turns"):
        moved(settings, path, {"strategy": "full", "weights": "turns"})
    alpaca = write(tmp_path / "alpaca.jsonl", [{"instruction": "w1", "input": "", "output": "w2"}] * 4)
    settings |= {"datasets": [{"path": str(alpaca), "ds_type": "json", "type": "alpaca", "split": "train"}], **PLAIN}
    with pytest.raises(ValueError, match=r"`weights` is 'wieght', but row 0 .* instruction, input, output"):
        train(settings, sstoken={"strategy": "full", "weights": "wieght"})
