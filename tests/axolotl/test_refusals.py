"""What cannot work is refused before the model is loaded."""

from __future__ import annotations

import json

import pytest
from axolotl.loaders import ModelLoader

from .conftest import SSTOKEN, data, run, train, write


@pytest.fixture
def no_model(monkeypatch):
    """Fails the test if a refusal comes too late."""

    def load(self):
        pytest.fail("the model was loaded")

    monkeypatch.setattr(ModelLoader, "load", load)


def refused(settings, match, **changes):
    with pytest.raises(ValueError, match=match):
        train(settings, **changes)


@pytest.mark.parametrize(
    ("block", "match"),
    [
        ({"roh": 0.5}, r"`roh` is not an option of `sstoken`: did you mean `rho`\? Its options are .*gamma"),
        ({"rho": 0.0}, r"`rho` is 0.0.*\(0, 1\]"),
        ({"rho": "much"}, r"sstoken\.rho"),
        ({"gamma": 1.5}, r"`gamma` is 1.5.*\[0, 1\]"),
        ({"history": "bass"}, r"`history` is 'bass'.*Known: adapter, auto, base"),
        ({"strategy": "best"}, r"`strategy` is 'best'.*Known: asft, .*random, rho1, signal, sstoken"),
        ({"strategy": "signal", "signal": "noize"}, r"`signal` is 'noize'.*Known: .*noise"),
        ({"history": "adapter"}, r"`history_adapter` is not set"),
        ({"history": "adapter", "history_adapter": "/no/such"}, r"`history_adapter` is '/no/such', which is not"),
    ],
    ids=str,
)
def test_block(settings, no_model, block, match):
    refused(settings, match, sstoken=block)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rl": "dpo"}, r"`rl` is 'dpo'"),
        ({"reward_model": True}, r"`reward_model` is True"),
        ({"process_reward_model": True}, r"`process_reward_model` is True"),
        ({"orpo_alpha": 0.1}, r"`orpo_alpha` is 0.1"),
        ({"use_eaft": True}, r"`use_eaft` is True.*`strategy: eaft`"),
        ({"relora": True, "jagged_restart_steps": 2}, r"`relora` is True"),
        ({"tensor_parallel_size": 2}, r"`tensor_parallel_size` is 2"),
        (
            {"train_on_inputs": True, "sstoken": {"gamma": 0.0}, "datasets": [{"path": "x", "type": "alpaca"}]},
            r"`train_on_inputs` is True.*`gamma` above 0",
        ),
        (
            {"adapter": None, "sstoken": {"history": "base"}},
            r"`history` is 'base' but `adapter` is not set.*'auto'.*'last_visit'.*`gamma` to 0",
        ),
        (
            {"adapter": None, "streaming": True, "max_steps": 2},
            r"`history` is 'auto', which in full fine-tuning .* a stream.*'last_visit'",
        ),
        (
            {"plugins": [SSTOKEN, "axolotl.integrations.diffusion.DiffusionPlugin"]},
            r"`plugins` has 'axolotl.integrations.diffusion.DiffusionPlugin'",
        ),
        (
            {"plugins": [SSTOKEN, "axolotl.integrations.kd.KDPlugin"], "kd_trainer": True},
            r"`kd_trainer` is",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings(settings, no_model, changes, match):
    refused(settings, match, **changes)


def test_all_is_said_at_once(settings, no_model):
    refused(settings, r"(?s)`rho` is 0.0.*`gamma` is 2.0", sstoken={"rho": 0.0, "gamma": 2.0})
    changes = {"use_eaft": True, "orpo_alpha": 0.1, "sstoken": {"history": "base"}}
    refused(settings, r"(?s)`orpo_alpha`.*`use_eaft`.*`adapter` is not set", adapter=None, **changes)


def test_context_parallelism(settings, no_model, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    # Without the ring attention package, which is for GPUs, Axolotl itself comes first.
    refused(settings, r"context_parallel_size|ring_flash_attn", context_parallel_size=2)


def test_plain_text_by_attention_alone(settings, no_model, tmp_path):
    texts = write(tmp_path / "texts.jsonl", [{"text": "w1 w2 w3"}])
    block = {"gamma": 0.0}
    refused(settings, r"`type: completion`.*`chat_template`", datasets=data(texts, type="completion"), sstoken=block)


def test_data_that_turn_out_to_have_no_prompts(settings, chats):
    rows = chats.with_name("tokenised.jsonl")
    write(rows, [{"input_ids": [6, 7, 8], "labels": [6, 7, 8], "attention_mask": [1, 1, 1]}] * 8)
    block = {"gamma": 0.0}
    refused(settings, r"All of the first 8 samples have no prompt", datasets=data(rows, type=None), sstoken=block)


def test_foreign_adapter(settings, adapters, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (foreign / name).write_bytes((adapters[0] / name).read_bytes())
    config = json.loads((foreign / "adapter_config.json").read_text())
    (foreign / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "other/model"}))
    block = {"history": "adapter", "history_adapter": str(foreign)}
    refused(settings, r"was trained on 'other/model'", sstoken=block)


def test_only_training_is_affected(settings, adapters, tmp_path):
    """A YAML whose history has gone can still be preprocessed, and its adapter merged."""
    settings |= {
        "plugins": [SSTOKEN],
        "sstoken": {"history": "adapter", "history_adapter": "/gone"},
        "dataset_prepared_path": str(tmp_path / "prepared"),
        "lora_model_dir": str(adapters[0]),
    }
    run("preprocess", settings)
    assert any((tmp_path / "prepared").iterdir())
    run("merge_lora", settings)
    assert (tmp_path / "out" / "merged" / "config.json").is_file()
