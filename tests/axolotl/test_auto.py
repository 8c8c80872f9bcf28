"""The one line in full fine-tuning, and on data without a prompt: equal to the reference, resumed, recorded once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from sstoken_axolotl.inspection import looking
from sstoken_plugins import hookimpl
from sstoken_plugins.cli import main
from sstoken_plugins.registry import plugin_manager
from sstoken_transformers.framework import Look

from ..trl import oracle
from .conftest import SSTOKEN, data, losses, run, train, write


@pytest.fixture
def full(settings):
    return {name: value for name, value in settings.items() if not name.startswith(("lora", "adapter"))}


@pytest.fixture
def seen():
    found = []

    class Observer:
        @hookimpl
        def observe(self, selection, record):
            found.append(selection)

    observer = Observer()
    plugin_manager().register(observer)
    yield found
    plugin_manager().unregister(observer)


def rows_of(selections):
    return [
        (s.measured.input_ids[mine].tolist(), s.measured.batch.labels[mine].tolist())
        for s in selections
        for mine in (s.documents.ids == d for d in range(int(s.documents.ids.max()) + 1))
        if (s.documents.response & mine).any()
    ]


def log(trainer, name: str) -> list[float]:
    return [entry[f"sstoken/{name}"] for entry in trainer.state.log_history if "loss" in entry]


def saved_model(folder: str) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_full_fine_tuning_equals_the_reference(full, model_dir, seen, packing):
    full |= {"sample_packing": packing, "micro_batch_size": 1 if packing else 4}
    trainer = train(full, max_steps=4)
    start = AutoModelForCausalLM.from_pretrained(model_dir, attn_implementation="eager", dtype=torch.float32)
    rows = rows_of([s for s in seen if s.measured.progress.step == 0])
    assert losses(trainer)[0] == pytest.approx(oracle.loss(start, rows, 0.6, 0.5, history=start), abs=1e-5)
    assert log(trainer, "history_missing") == [0] * 4
    assert log(trainer, "rel_kept")[0] == 0 < log(trainer, "rel_kept")[-1]
    [store] = Path(full["output_dir"], "_sstoken-history").iterdir()
    assert (store / "store.json").is_file()


def test_recorded_once_and_resumed_exactly(full, tmp_path, capfd):
    # In a random order, Axolotl itself packs other rows after resuming in the middle of an epoch.
    full |= {"sample_packing": True, "micro_batch_size": 1, "curriculum_sampling": True}
    steps = {"max_steps": 6, "save_strategy": "steps", "save_steps": 4}
    whole = train(full, **steps)
    out = Path(full["output_dir"])
    end = saved_model(str(out))
    assert "24 new samples" in capfd.readouterr().out
    resumed = train(full, **steps, resume_from_checkpoint=str(out / "checkpoint-4"))
    assert "0 new samples, 24 in all" in capfd.readouterr().out
    assert losses(whole)[4:] == losses(resumed)[4:]
    again = saved_model(str(out))
    assert all(torch.equal(end[name], again[name]) for name in end)
    shutil.rmtree(out / "_sstoken-history")
    with pytest.raises(ValueError, match="what the model said before the first step is gone"):
        train(full, **steps, resume_from_checkpoint=str(out / "checkpoint-4"))


def test_with_an_adapter_it_is_base(settings, tmp_path):
    auto = train(settings, output_dir=str(tmp_path / "auto"))
    base = train(settings, output_dir=str(tmp_path / "base"), sstoken={"history": "base"})
    assert losses(auto) == losses(base)
    assert not (tmp_path / "auto" / "_sstoken-history").exists()


def without_prompt(kind: str, chats, tmp_path, model_dir) -> dict:
    if kind == "train_on_inputs":
        tasks = [
            {"instruction": f"w{i} w{i + 1} w3", "input": "", "output": f"w4 w{2 * i % 60} w6"} for i in range(24)
        ]
        return {"train_on_inputs": True, "datasets": data(write(tmp_path / "tasks.jsonl", tasks), type="alpaca")}
    if kind == "completion":
        texts = [{"text": f"w{i} w{i + 1} w3 w4 w{2 * i % 60} w6 w7"} for i in range(24)]
        return {"datasets": data(write(tmp_path / "texts.jsonl", texts), type="completion")}
    ids = AutoTokenizer.from_pretrained(model_dir)("w1 w2 w3 w4 w5 w6 w7")["input_ids"]
    rows = [
        {"input_ids": [*ids, ids[i % 7]], "labels": [*ids, ids[i % 7]], "attention_mask": [1] * 8} for i in range(24)
    ]
    return {"datasets": data(write(tmp_path / "rows.jsonl", rows), type=None)}


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("kind", ["train_on_inputs", "completion", "tokenised"])
def test_without_a_prompt(settings, adapters, chats, model_dir, tmp_path, seen, caplog, kind, packing):
    settings |= without_prompt(kind, chats, tmp_path, model_dir)
    settings |= {"dataset_prepared_path": str(tmp_path / "prepared"), "lora_model_dir": str(adapters[0])}
    settings |= {"sample_packing": packing, "micro_batch_size": 1 if packing else 4}
    trainer = train(settings, max_steps=1)
    assert log(trainer, "without_prompt") == [1]
    assert log(trainer, "attention_kept") == [0]
    model = AutoModelForCausalLM.from_pretrained(model_dir, attn_implementation="eager", dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapters[0])
    assert losses(trainer)[0] == pytest.approx(oracle.loss(model, rows_of(seen), 0.6, 1.0), abs=1e-5)


def test_recorded_and_looked_at_by_the_commands(full, tmp_path, capfd):
    """In the order of a careful user: record, examine, look, train; then look again."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**full, "plugins": [SSTOKEN], "save_strategy": "steps", "save_steps": 2}))
    assert main(["record", str(path)]) == 0
    assert list(Path(full["output_dir"], "_sstoken-history").iterdir())
    capfd.readouterr()
    assert main(["doctor", str(path), "--json"]) == 0
    out = capfd.readouterr().out
    assert "history=auto (start model, recorded)" in json.loads(out[out.index("{") :])["selection"]
    run("train", {**full, "plugins": [SSTOKEN], "save_strategy": "steps", "save_steps": 2})
    assert "0 new samples, 24 in all" in capfd.readouterr().out

    def rel(adapter: str | None) -> float:
        with looking(path, [], Look(8, adapter, str(tmp_path))) as looked:
            batch = next(iter(looked.trainer.get_train_dataloader()))
            found = looked.trainer.token_selector.inspect(looked.trainer.model, batch, 0)
            return found.signals["rel"][found.documents.response].abs().max().item()

    assert rel(None) == 0 < rel(str(Path(full["output_dir"], "checkpoint-2")))
