"""The one line in an ms-swift YAML: what trains, what it trains on, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from sstoken_commands import doctor
from sstoken_commands import inspect as inspect_command

from ..trl import oracle
from .conftest import PLUGIN, build, flags, log


def test_the_line_is_printed():
    printed = subprocess.run([sys.executable, "-m", "sstoken_swift"], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == str(PLUGIN)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_the_first_step_equals_the_reference(settings, model_dir, tuning):
    trainer = build(settings, tuner_type=tuning)
    trainer.train()
    assert log(trainer, "sstoken/rel_kept")[0] == 0 < log(trainer, "sstoken/rel_kept")[-1]
    assert all(0 < rate < 1 for rate in log(trainer, "sstoken/keep_rate"))
    start = AutoModelForCausalLM.from_pretrained(model_dir, attn_implementation="eager", dtype=torch.float32)
    batch = next(iter(build(settings, output_dir=settings["output_dir"] + "-again").get_train_dataloader()))
    rows = [
        (ids[mask.bool()].tolist(), labels[mask.bool()].tolist())
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
    ]
    assert log(trainer, "loss")[0] == pytest.approx(oracle.loss(start, rows, 0.6, 0.5, history=start), abs=1e-5)


def test_all_tokens_are_plain_swift(settings, monkeypatch):
    """Through our head and swift's own loss, and accumulated: the same losses and the same steps."""
    from swift.trainers import Seq2SeqTrainer, TrainerFactory

    found = []
    for plain in (True, False):
        monkeypatch.setenv("SSTOKEN_STRATEGY", "full")
        changes = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
        if plain:
            from swift.pipelines import SwiftSft

            from sstoken_swift.compat import read_arguments

            name = f"{Seq2SeqTrainer.__module__}.{Seq2SeqTrainer.__name__}"
            monkeypatch.setitem(TrainerFactory.TRAINER_MAPPING, "causal_lm", name)
            result = SwiftSft(read_arguments(flags({**settings, **changes}))).main()
            found.append([entry["loss"] for entry in result["log_history"] if "loss" in entry])
        else:
            trainer = build(settings, **changes)
            trainer.train()
            found.append(log(trainer, "loss"))
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert len(found[0]) == 3


def test_resuming_continues_exactly(settings, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = build(settings, **saving)
    whole.train()
    resumed = build(settings, **saving, output_dir=str(tmp_path / "resumed"))
    resumed.train(str(tmp_path / "out" / "checkpoint-2"))
    assert log(whole, "loss")[2:] == log(resumed, "loss")[2:]


def test_options_come_from_the_environment(settings, monkeypatch):
    monkeypatch.setenv("SSTOKEN_RHO", "0.3")
    monkeypatch.setenv("SSTOKEN_HISTORY", "last_visit")
    trainer = build(settings)
    assert "rho=0.3" in trainer.token_selector.summary
    assert trainer.token_selector.config.history == "last_visit"


@pytest.mark.parametrize(
    ("environment", "changes", "match"),
    [
        ({"SSTOKEN_ROH": "1"}, {}, r"SSTOKEN_ROH is not an option of the selection: did you mean SSTOKEN_RHO\?"),
        ({"SSTOKEN_RHO": "2"}, {}, r"`SSTOKEN_RHO` is 2"),
        ({"SSTOKEN_HISTORY": "base"}, {"tuner_type": "full"}, r"`SSTOKEN_HISTORY` is 'base'"),
        ({"SSTOKEN_WEIGHTS": "w"}, {}, r"`SSTOKEN_WEIGHTS` and `SSTOKEN_WEIGHTS_FILE` are not read under ms-swift"),
        ({}, {"enable_dft_loss": True}, r"`enable_dft_loss` is True"),
        ({}, {"loss_scale": "react"}, r"`loss_scale` weighs tokens"),
    ],
    ids=str,
)
def test_refused(settings, monkeypatch, environment, changes, match):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=match):
        build(settings, **changes)


def test_other_trainings_are_refused(settings):
    with pytest.raises(ValueError, match="not supervised fine-tuning of a causal language model"):
        build(settings, task_type="seq_cls", num_labels=2, tuner_type="full")


@pytest.fixture
def yaml_file(settings, tmp_path):
    path = tmp_path / "run.yaml"
    content = {**settings, "external_plugins": [str(PLUGIN)], "ENV": {"SSTOKEN_RHO": "0.5"}}
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_doctor_picks_it_by_its_yaml(yaml_file, capsys):
    assert doctor.main([str(yaml_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["framework"] == "ms-swift"
    assert "rho=0.5" in found["selection"]
    assert found["data"]["samples"] == 24
    assert 0 < found["data"]["kept_tokens"] < found["data"]["response_tokens"]
    assert "attention" in found["model"]["measured"]


def test_the_doctor_misses_the_line(yaml_file, settings, capsys):
    yaml_file.write_text(yaml.safe_dump(settings))
    assert doctor.main([str(yaml_file)]) == 1
    assert "python -m sstoken_swift" in capsys.readouterr().out


def test_inspect(yaml_file, tmp_path, capsys):
    pytest.importorskip("jinja2")
    assert inspect_command.main([str(yaml_file), "--n_samples", "4", "--out", str(tmp_path / "look")]) == 0
    assert list((tmp_path / "look").rglob("*.html"))
