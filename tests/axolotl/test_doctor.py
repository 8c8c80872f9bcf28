"""`sstoken doctor` on Axolotl YAMLs: it says what the training then does, and loads no weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from axolotl.integrations.base import PluginManager

from sstoken_axolotl.doctor import examine
from sstoken_plugins.cli import main

from ..trl.test_histories import selections
from .conftest import SSTOKEN, data, train, write
from .test_training import QLORA

PACKED = {"sample_packing": True, "micro_batch_size": 1}


@pytest.fixture
def config(settings, tmp_path):
    """Writes a YAML with the plugin; None removes a key."""

    def write_yaml(**changes) -> Path:
        values = {**settings, "plugins": [SSTOKEN], **changes}
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump({name: value for name, value in values.items() if value is not None}))
        PluginManager.get_instance().plugins.clear()  # of the test before
        return path

    yield write_yaml
    PluginManager.get_instance().plugins.clear()


@pytest.mark.parametrize("layout", [{}, PACKED, {"sequence_len": 24}], ids=["padded", "packed", "cut short"])
def test_it_counts_what_training_sees(config, settings, layout):
    found = examine(config(**layout), [])
    assert found.healthy, found.problems
    with selections() as seen:
        train(settings, max_steps=None, num_epochs=1, **layout)
    # Padding at the end of a packed row looks like a document without a response.
    responses = [each for selection in seen for each in selection.documents.n_response.tolist() if each]
    assert found.data.samples - found.data.without_response == len(responses)
    assert found.data.response_tokens == sum(responses)
    assert found.data.kept_tokens == sum(int(selection.kept.sum()) for selection in seen)
    assert found.data.without_prompt == 0
    assert found.model.measured["attention"] == "layer 1 (LlamaAttention, sdpa)"


@pytest.mark.parametrize("history", ["snapshot", "ema", "adapter"])
def test_it_knows_what_the_history_takes(config, settings, adapters, history):
    block = {"history": history, **({"history_adapter": str(adapters[0])} if history == "adapter" else {})}
    found = examine(config(sstoken=block, **QLORA), [])
    assert found.healthy, found.problems
    trainer = train(settings, sstoken=block, max_steps=1, **QLORA)
    assert found.model.memory == dict(trainer.token_selector.history.memory(0, 0))
    assert found.model.trainable == sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)


def test_it_is_fine_without_weights(config, model_dir, capsys, tmp_path):
    (model_dir / "model.safetensors").rename(model_dir / "elsewhere")
    try:
        assert main(["doctor", "--json", str(config()), "--sstoken__history=last_visit", "--num_epochs=3"]) == 0
    finally:
        (model_dir / "elsewhere").rename(model_dir / "model.safetensors")
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"]
    assert found["framework"] == "Axolotl"
    assert "history=last_visit" in found["selection"]
    assert found["versions"]["axolotl"]["is_tested"]
    assert found["model"]["memory"]["host"] > 2.25 * found["data"]["response_tokens"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"plugins": None}, ["`plugins` does not have `sstoken_axolotl.SSTokenPlugin`"]),
        ({"plugins": ["sstoken_axoloti.SSTokenPlugin"]}, ["`plugins` does not have"]),
        ({"sstoken": False}, ["`sstoken` has `enabled: false`"]),
        ({"sstoken": {"roh": 1, "gama": 0}}, ["did you mean `gamma`?", "did you mean `rho`?"]),
        ({"sstoken": {"rho": 2}, "use_eaft": True}, ["`rho` is 2.0", "`use_eaft` is True"]),
        (
            {"use_eaft": True, "adapter": None, "sstoken": {"history": "snapshot"}},
            ["`use_eaft` is True", "`adapter` is not set"],
        ),
        ({"sstoken": {"attention_layer": 9}}, ["`attention_layer` is 9"]),
        ({"sstoken": {"history": "recorded", "history_store": "/no/such"}}, ["where nothing was recorded yet"]),
        ({"datasets": data(Path("/no/such"))}, ["The data: "]),
        ({"base_model": "/no/such"}, ["The configuration: "]),
        ({"micro_batch_size": "many"}, ["`micro_batch_size`: Input should be a valid integer"]),
        ({"lora_target_linear": False, "lora_target_modules": ["nothing"]}, ["The model: Target modules"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_would_stop_the_training(config, changes, problems):
    environment = dict(os.environ)
    found = examine(config(**changes), [])
    assert os.environ == environment
    assert not found.healthy
    assert len(found.problems) == len(problems), found.problems
    for each, expected in zip(found.problems, problems, strict=True):
        assert expected in each


def test_samples_without_prompt_or_response(config, chats):
    rows = [([1, 6, 7, 8], [-100, -100, 7, 8])] * 3 + [([9, 6, 7, 8], [9, 6, 7, 8])]
    path = write(
        chats.with_name("some.jsonl"),
        [{"input_ids": ids, "labels": labels, "attention_mask": [1] * 4} for ids, labels in rows],
    )
    found = examine(config(datasets=data(path, type=None)), [])
    assert found.healthy, found.problems
    assert (found.data.samples, found.data.without_prompt) == (4, 1)
    assert "1 of 4 samples have no prompt" in found.notes[0]


def test_a_wrong_command_line(config, capsys):
    assert main(["doctor", str(config()), "--rho", "0.5"]) == 2
    assert "'--rho' is not written as --key=value" in capsys.readouterr().err
    assert main(["doctor", str(config()), "--data", "chats.jsonl"]) == 2
    assert "`--data` is for TRL. Axolotl's YAML names the file in `datasets`" in capsys.readouterr().err


def test_forecast(config, capsys):
    assert main(["doctor", "--json", str(config(sstoken={"strategy": "trimmed"})), "--forecast", "6"]) == 0
    seen = json.loads(capsys.readouterr().out)["forecast"]
    assert seen["samples"] == 6
    assert seen["trained_tokens"] + seen["noise_tokens"] == seen["response_tokens"] > 0
