"""Weights that come with the data: of samples, turns and tokens, under real TRL in every layout."""

from __future__ import annotations

import json

import pytest
import torch

from .test_training import SGD, difference, losses, weights

LAYOUTS = {
    "padded": {},
    "packed": {"packing": True, "max_length": 128},
    "padding_free": {"padding_free": True, "max_length": None},
}
FULL = {"sstoken_strategy": "full", "max_steps": 3, **SGD}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sample_of_weight_0_has_no_influence(make_trainer, dataset, layout):
    """Its answer may be anything: divided by the number of all samples, the same is learned."""
    weighed = dataset.map(lambda _, i: {"weight": float(i % 3 > 0)}, with_indices=True)
    results = []
    for answer in (" w1 w2 w3", " w7 w8 w9"):
        changed = weighed.map(lambda row: {"completion": row["completion"] if row["weight"] else answer})  # noqa: B023
        trainer = make_trainer(
            train_dataset=changed, sstoken_weights="weight", sstoken_divisor="samples", **LAYOUTS[layout], **FULL
        )
        trainer.train()
        results.append(weights(trainer))
    assert difference(*results) < 1e-6


def test_layouts_agree(make_trainer, dataset):
    weighed = dataset.map(lambda _, i: {"weight": (i % 5) - 1.0}, with_indices=True)
    options = {"per_device_train_batch_size": 24, **FULL, "max_steps": 1}  # all of it in one step
    found = []
    for layout in LAYOUTS.values():
        trainer = make_trainer(train_dataset=weighed, sstoken_weights="weight", **layout, **options)
        trainer.train()
        found.append(weights(trainer))
    assert difference(found[0], found[1]) < 1e-5
    assert difference(found[0], found[2]) < 1e-5


def test_turns(make_trainer, conversations, tmp_path):
    """Weights of turns stand in the messages or in a column; weight 2 is the turn counted twice, -1 turned round."""

    def in_messages(row, i):
        n = len(row["messages"]) // 2
        turns = [float((i + turn) % 4 - 1) for turn in range(n)]
        messages = [dict(message) for message in row["messages"]]
        for message, weight in zip(messages[1::2], turns, strict=True):
            message["weight"] = weight
        return {"messages": messages, "turns": turns}

    data = conversations.map(in_messages, with_indices=True)
    options = {"assistant_only_loss": True, "per_device_train_batch_size": 24, **FULL, "max_steps": 1}
    found = []
    path = tmp_path / "weights.jsonl"
    path.write_text("".join(json.dumps({"weights": turns}) + "\n" for turns in data["turns"]))
    for given in ({"sstoken_weights": "weight"}, {"sstoken_weights": "turns"}, {"sstoken_weights_file": str(path)}):
        trainer = make_trainer(train_dataset=data, **given, **options)
        trainer.train()
        found.append((losses(trainer), weights(trainer)))
    assert difference(found[0][1], found[1][1]) == difference(found[0][1], found[2][1]) == 0

    plain = make_trainer(train_dataset=data, **options)
    negative = make_trainer(train_dataset=data.map(lambda row: {"minus": -1.0}), sstoken_weights="minus", **options)
    before = {name: tensor.clone() for name, tensor in weights(plain).items()}
    plain.train()
    negative.train()
    for name, start in before.items():
        torch.testing.assert_close(weights(plain)[name] - start, start - weights(negative)[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"weight": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]},
            "Row 2 .*16 weights",
        ),
        ({"weight": [float("nan")]}, "Row 2 .*finite"),
    ],
)
def test_what_does_not_fit_is_refused_by_row(make_trainer, dataset, row, message):
    data = dataset.to_list()
    rows = [{**each, "weight": row["weight"] if i == 2 else [1.0]} for i, each in enumerate(data)]
    from datasets import Dataset

    with pytest.raises(ValueError, match=message):
        make_trainer(train_dataset=Dataset.from_list(rows), sstoken_weights="weight", **FULL)


def test_a_column_that_is_not_there(make_trainer, tmp_path):
    with pytest.raises(ValueError, match=r"`sstoken_weights` is 'wieght', but row 0 .* prompt, completion"):
        make_trainer(sstoken_weights="wieght", **FULL)
    (tmp_path / "weights.jsonl").write_text("1.0\n")
    with pytest.raises(ValueError, match="1 lines, but the data have 24 rows"):
        make_trainer(sstoken_weights_file=str(tmp_path / "weights.jsonl"), **FULL)
    with pytest.raises(ValueError, match="`sstoken_divisor` is 'weights', but the data have no weights"):
        make_trainer(sstoken_divisor="weights", **FULL)


def test_a_sum_that_may_vanish_is_no_divisor(make_trainer, dataset):
    data = dataset.map(lambda row, i: {"weight": -1.0 if i == 3 else 1.0}, with_indices=True)
    trainer = make_trainer(train_dataset=data, sstoken_weights="weight", sstoken_divisor="weights", **FULL)
    with pytest.raises(ValueError, match=r"Row 3 .*has a weight below 0, but `sstoken_divisor` is 'weights'"):
        trainer.train()
