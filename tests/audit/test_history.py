"""An audit leaves the history that the training reads, and reads one that was recorded."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

pytest.importorskip("trl")

from sstoken_audit.command import main
from sstoken_plugins.store import DiskStore
from sstoken_trl.record import run as record
from sstoken_trl.sft import run as train

from .conftest import pairs

FULL = {"max_steps": 1, "learning_rate": 1e-4}
LORA = {"use_peft": True, "lora_r": 4, "lora_target_modules": "all-linear"}
RECORDED = ["--sstoken", "--sstoken_history", "recorded", "--sstoken_history_strict", "--sstoken_history_store"]


def turn(role, content):
    return {"role": role, "content": content}


def chat(question, answer):
    return {"messages": [turn("user", question), turn("assistant", answer), turn("user", answer)]}


FORMS = {
    "text": lambda question, answer: {"prompt": f"{question} ", "completion": answer},
    "chat": lambda question, answer: {"prompt": [turn("user", question)], "completion": [turn("assistant", answer)]},
    "messages": chat,
}


@pytest.fixture
def run(model_dir, tmp_path, monkeypatch):
    """Writes data and YAML of a training."""
    monkeypatch.chdir(tmp_path)

    def write(form="text", **settings):
        rows = [FORMS[form](*pair) for pair in pairs(24, seed=11)]
        (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        common = {
            "model_name_or_path": str(model_dir), "data": str(tmp_path / "train.jsonl"), "output_dir": "out",
            "use_cpu": True, "bf16": False, "report_to": "none", "per_device_train_batch_size": 4, "logging_steps": 1,
            "max_length": 12, "save_strategy": "no", "gradient_checkpointing": False,
        }  # fmt: skip
        (tmp_path / "run.yaml").write_text(yaml.safe_dump({**common, **FULL, **settings}))
        return tmp_path / "run.yaml"

    return write


def audited(*more):
    assert main(["--config", "run.yaml", "--skip", "language", *map(str, more)]) == 0


@pytest.mark.parametrize("form", ["text", "chat", "messages"])
def test_the_keys_are_those_that_the_training_records(form, run, tmp_path):
    config = run(form, **({"assistant_only_loss": True} if form == "messages" else {}))
    audited()
    record(["--config", str(config), "--sstoken_history_store", "recorded"])
    left, recorded = DiskStore(tmp_path / "run-audit" / "history"), DiskStore(tmp_path / "recorded")
    assert len(left) == 24
    for one, other in zip(left.documents, recorded.documents, strict=True):
        assert torch.equal(one, other)
    assert left.made_by == recorded.made_by
    assert 0 <= left.noise < 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param(LORA, marks=pytest.mark.slow),
        pytest.param({**LORA, "load_in_4bit": True}, marks=pytest.mark.slow),
        {**LORA, "load_in_4bit": True, "dtype": "bfloat16"},
        pytest.param({"bf16": True}, marks=pytest.mark.slow),
    ],
    ids=["full", "lora", "qlora", "qlora in bfloat16", "full in bfloat16"],
)
def test_the_training_records_nothing_after_an_audit(settings, run, tmp_path, capsys):
    if "load_in_4bit" in settings:
        pytest.importorskip("bitsandbytes")
    config = run(**settings)
    audited()
    store = tmp_path / "run-audit" / "history"
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    train(["--config", str(config), *RECORDED, str(store)])
    log = capsys.readouterr().out
    assert "'sstoken/history_missing': '0'" in log
    assert record(["--config", str(config), "--sstoken_history_store", str(store)]) == 0
    assert {path.name: path.read_bytes() for path in store.iterdir()} == before


def test_what_was_recorded_is_not_scored_again(run, tmp_path, monkeypatch):
    config = run()
    audited("--out", "fresh")
    record(["--config", str(config), "--sstoken_history_store", "recorded"])
    audited("--out", "known", "--history", "recorded")
    fresh, known = (pq.read_table(tmp_path / name / "scores.parquet") for name in ("fresh", "known"))
    for name in ("loss", "prompt_gain", "gibberish"):
        np.testing.assert_allclose(fresh[name], known[name], atol=1e-3, err_msg=name)
    assert not any(value is not None for value in known["entropy"].to_pylist())  # the store has none
    assert sorted(path.name for path in (tmp_path / "known").iterdir() if path.name == "history") == []


def test_another_model_is_refused(run, model_dir, tmp_path, capsys):
    run()
    audited()
    assert main(["--config", "run.yaml", "--dtype", "bfloat16", "--history", "run-audit/history", "--out", "b"]) == 2
    assert "made with another" in capsys.readouterr().err


def test_a_training_of_other_tokens_gets_no_history(run, tmp_path, capsys):
    run("messages")
    audited()
    assert "No history for the training is left: assistant_only_loss is False" in capsys.readouterr().out
    assert not (tmp_path / "run-audit" / "history").exists()
    assert main(["--config", "run.yaml", "--history", "elsewhere"]) == 2
    assert "assistant_only_loss is False" in capsys.readouterr().err


def test_killed_before_the_history_was_written(run, tmp_path):
    """The scores of the cache are left there again."""
    import shutil

    run()
    audited()
    whole = DiskStore(tmp_path / "run-audit" / "history").documents
    shutil.rmtree(tmp_path / "run-audit" / "history")
    audited()
    for one, other in zip(whole, DiskStore(tmp_path / "run-audit" / "history").documents, strict=True):
        assert torch.equal(one, other)
