"""Stores that were damaged, or made by another model."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from sstoken_plugins import BatchIndex, SSTokenConfig, TokenSelector, TrainingRun
from sstoken_plugins.data import MicroBatch
from sstoken_plugins.store import DiskStore
from sstoken_plugins.store.files import digest

from ..core.tiny import tiny
from ..store.stores import MADE_BY, documents, made, padded
from .damage import damaged, wrong_entries
from .training import adapted, pad, rows


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "store"
    made(folder, documents(12))
    made(folder, documents(12, seed=4))
    return folder


def said(folder: Path) -> torch.Tensor:
    opened = DiskStore(folder)
    opened.require(MADE_BY)
    return opened.get(BatchIndex.of(padded(documents(12) + documents(12, seed=4))[0]))[0]


@pytest.mark.parametrize("n", [60, pytest.param(400, marks=pytest.mark.slow)])
def test_any_damage_of_its_files(ledger, store, tmp_path, n):
    expected, rng = said(store), random.Random(0)
    for number in range(n):
        folder = Path(shutil.copytree(store, tmp_path / str(number)))
        path = rng.choice(sorted(folder.iterdir()))
        how, content = damaged(path.read_bytes(), rng)
        path.write_bytes(content)
        ledger.trial(
            "damaged store", (path.name, how), lambda folder=folder: said(folder),
            lambda found: torch.equal(found, expected), names=str(folder),
        )  # fmt: skip
        shutil.rmtree(folder)


def test_wrong_entries_of_the_manifest(ledger, store, tmp_path):
    """With and without a checksum that is right again."""
    expected, content = said(store), (store / "store.json").read_bytes()
    for number, (how, wrong) in enumerate(wrong_entries(content, random.Random(1), 40)):
        folder = Path(shutil.copytree(store, tmp_path / str(number)))
        if number % 2 and isinstance(whole := json.loads(wrong), dict):
            body = {name: value for name, value in whole.items() if name != "sha256"}
            wrong = json.dumps({**body, "sha256": digest(body)}).encode()
        (folder / "store.json").write_bytes(wrong)
        ledger.trial(
            "damaged store", how, lambda folder=folder: said(folder), lambda found: torch.equal(found, expected),
            names=str(folder),
        )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda shard: {**shard, "keys": shard["keys"][0]},
        lambda shard: {**shard, "keys": shard["keys"][None]},
        lambda shard: {**shard, "keys": shard["keys"].float()},
        lambda shard: {**shard, "keys": torch.zeros_like(shard["keys"])[:0]},
        lambda shard: {**shard, "lengths": shard["lengths"].float()},
        lambda shard: {**shard, "lengths": shard["lengths"] - 10**6},
        lambda shard: {**shard, "lengths": shard["lengths"][None]},
        lambda shard: {**shard, "blocks": shard["blocks"].float()},
        lambda shard: {**shard, "blocks": shard["blocks"][:-1]},
        lambda shard: {**shard, "blocks": shard["blocks"][None]},
        lambda shard: {"keys": shard["keys"]},
        lambda shard: {"x": shard["keys"]},
    ],
)
def test_shards_that_only_look_right(ledger, store, tmp_path, change):
    """Of wrong form, with a name that is the hash of what is in them."""
    folder = Path(shutil.copytree(store, tmp_path / "store"))
    path = sorted(folder.glob("*.safetensors"))[0]
    metadata = {"format": "2", "made_by": digest(MADE_BY), "noise": "0.0"}
    content = save({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, metadata)
    path.unlink()
    new = folder / f"{hashlib.sha256(content).hexdigest()}.safetensors"
    new.write_bytes(content)
    ledger.trial("damaged store", content[:80], lambda: said(folder), lambda found: False, names=new.name)


def test_a_shard_that_is_damaged_after_the_store_was_opened(ledger, store, tmp_path):
    folder = tmp_path / "store"
    made(folder, documents(12))
    opened = DiskStore(folder)
    made(folder, documents(12, seed=4))
    new = next(path for path in folder.glob("*.safetensors") if path not in {s.path for s in opened._shards})
    content = bytearray(new.read_bytes())
    content[-3] ^= 4
    new.write_bytes(content)
    ledger.trial("damaged store", "between open and refresh", opened.refresh, lambda found: False, names=new.name)


# Made by another model

OTHERS = {
    "rope_theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "rope scaling": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
    "rms_norm_eps": {"rms_norm_eps": 1e-2},
    "hidden_act": {"hidden_act": "gelu"},
    "max_position_embeddings": {"max_position_embeddings": 256},
    "attention_bias": {"attention_bias": True},
    "num_key_value_heads": {"num_key_value_heads": 4},
    "tie_word_embeddings": {"tie_word_embeddings": True},
}


def selector_of(model: Any, folder: Path, **options: Any) -> TokenSelector:
    selector = TokenSelector(
        SSTokenConfig(history="recorded", history_store=str(folder), history_record=True, **options)
    )
    selector.attach(model, TrainingRun(tokenizer="t"))
    return selector


def recorded(folder: Path) -> dict[str, torch.Tensor]:
    model, batch = tiny("llama", num_hidden_layers=1), pad(list(rows()))
    selector = selector_of(model, folder)
    selector.record(model, batch, selector.recorder())
    selector.history.store.flush()
    return batch


def first_step(model: Any, folder: Path, batch: dict[str, torch.Tensor]) -> float:
    """How far the history is from the model at its first step, which is 0 if it is the same."""
    selector = selector_of(model.train(), folder)
    _, selection = selector.forward(model, batch, step=0)
    return float(selection.signals["rel"].abs().max())


def test_another_model_is_noticed(ledger, tmp_path):
    batch = recorded(tmp_path / "store")
    plain = {"num_hidden_layers": 1}
    cases: list[tuple[str, Any]] = [(name, tiny("llama", **plain, **changed)) for name, changed in OTHERS.items()]
    for name, parameter in tiny("llama", **plain).named_parameters():
        model = tiny("llama", **plain)
        with torch.no_grad():
            row = dict(model.named_parameters())[name]
            row[int(batch["input_ids"][0, 3]) % len(row)] += 0.5  # one row, one bit of one value in others
        cases.append((name, model))
        assert parameter.shape == row.shape
    cases.append(("seed", tiny("llama", seed=9, **plain)))
    cases.append(("architecture", tiny("mistral", **plain)))
    for name, model in cases:
        ledger.trial("store of another model", name, lambda model=model: first_step(model, tmp_path / "store", batch),
                     lambda rel: rel == 0, names="was made with another")  # fmt: skip
    same = ledger.trial("store of the same model", "same", lambda: first_step(adapted(), tmp_path / "store", batch),
                        lambda rel: rel == 0)  # fmt: skip
    assert same == "survived"


@pytest.mark.parametrize("adapter", [True, False])
def test_a_model_that_only_computes_otherwise_is_noticed_by_its_values(ledger, tmp_path, adapter):
    """Weights and configuration are the same, but the code is not."""
    batch = recorded(tmp_path / "store")
    model = adapted() if adapter else tiny("llama", num_hidden_layers=1)
    base = model.get_base_model() if adapter else model
    base.model.layers[0].mlp.register_forward_hook(lambda module, inputs, output: output * 1.5)
    ledger.trial("store of another model", "hook", lambda: first_step(model, tmp_path / "store", batch),
                 lambda rel: rel == 0, names="are not this model's")  # fmt: skip


def test_full_fine_tuning_that_is_resumed_is_not_compared(tmp_path):
    batch = recorded(tmp_path / "store")
    model = tiny("llama", num_hidden_layers=1)
    selector = selector_of(model, tmp_path / "store")
    selector.load_state_dict({})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    selector.forward(model.train(), batch, step=3)


@pytest.mark.filterwarnings("ignore:`history` is")
def test_the_same_ids_with_other_labels_are_another_sample(ledger, tmp_path):
    batch = recorded(tmp_path / "store")
    model = adapted(learned=True)
    selector = selector_of(model, tmp_path / "store")
    shifted = {**batch, "labels": torch.where(batch["labels"] == -100, -100, (batch["labels"] + 1) % 61)}
    assert selector.history.stored(MicroBatch.of(shifted)).n_missing == len(batch["labels"])
    _, selection = selector.forward(model.train(), shifted, step=0)
    reference = TokenSelector(SSTokenConfig(history="base"))
    reference.attach(model)
    expected = reference.forward(model, shifted, step=0)[1].signals["rel"]
    ledger.trial(
        "same ids, other labels", "shifted", lambda: selection.signals["rel"],
        lambda rel: torch.allclose(rel, expected, atol=1e-4),
    )  # fmt: skip
