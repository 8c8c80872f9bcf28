"""What cannot work is refused before the model is loaded: here there is none to load."""

from __future__ import annotations

import pickle

import pytest
from datasets import Dataset
from peft import PromptTuningConfig
from transformers import FalconConfig

from sstoken_trl import SSTokenSFTConfig

PROMPTED = [{"prompt": "w1 w2", "completion": " w3 w4"}]


def refused(make_trainer, rows=PROMPTED, *, match, **options):
    with pytest.raises(ValueError, match=match):
        make_trainer(model="/no/such/model", train_dataset=Dataset.from_list(rows), **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sstoken_rho": 0.0}, r"`sstoken_rho` is 0.0.*\(0, 1\]"),
        ({"sstoken_rho": 1.2}, r"`sstoken_rho` is 1.2"),
        ({"sstoken_gamma": -0.1}, r"`sstoken_gamma` is -0.1.*\[0, 1\]"),
        ({"sstoken_rel_warmup_steps": -1}, r"`sstoken_rel_warmup_steps` is -1"),
        ({"sstoken_history": "bass"}, r"`sstoken_history` is 'bass'.*Known: .*base"),
        (
            {"sstoken_strategy": "best"},
            r"`sstoken_strategy` is 'best'.*Known: asft, .*random, rho1, signal, sstoken",
        ),
        (
            {"sstoken_strategy": "signal", "sstoken_signal": "luck"},
            r"`sstoken_signal` is 'luck'.*Known: attention, entropy",
        ),
        ({"sstoken_history": "adapter"}, r"`sstoken_history_adapter` is not set"),
        ({"sstoken_history": "adapter", "sstoken_history_adapter": "/no/such"}, "'/no/such', which is not a folder"),
        ({"packing": True, "packing_strategy": "wrapped"}, "`packing_strategy` is 'wrapped'.*'bfd'"),
        ({"sstoken_loss": "mine"}, "`sstoken_loss` is 'mine'"),
        (
            {"sstoken_loss": "own", "label_smoothing_factor": 0.1},
            "`sstoken_loss` is 'own'.*`label_smoothing_factor` is",
        ),
        ({"sstoken_loss": "own", "loss_type": "dft"}, "`sstoken_loss` is 'own'.*`loss_type` is 'dft'"),
        ({"sstoken_loss": "own", "compute_loss_func": print}, "`sstoken_loss` is 'own'.*`compute_loss_func` is set"),
        (
            {"peft_config": None, "sstoken_history": "base"},
            "`sstoken_history` is 'base' but there is no adapter.*`sstoken_history` to 'auto'",
        ),
        ({"completion_only_loss": False, "sstoken_gamma": 0.0}, "`completion_only_loss` is False"),
    ],
)
def test_option(make_trainer, options, match):
    refused(make_trainer, match=match, **options)


def test_all_is_said_at_once(make_trainer):
    with pytest.raises(ValueError, match="`sstoken_rho` is 2") as refusal:
        SSTokenSFTConfig(sstoken=True, sstoken_rho=2, sstoken_gamma=-1, sstoken_first_visit="luck", use_cpu=True)
    assert len(refusal.value.problems) == len(str(refusal.value).splitlines()) == 3
    assert all("`sstoken_" in problem for problem in pickle.loads(pickle.dumps(refusal.value)).texts)
    refused(
        make_trainer, [{"text": "w1"}], sstoken_loss="own", loss_type="dft", sstoken_gamma=0.0,
        packing=True, packing_strategy="wrapped", match=r"(?s)'wrapped'.*`loss_type`.*plain text",
    )  # fmt: skip


def test_pictures_for_a_model_that_reads(make_trainer):
    """TRL's own error says it best."""
    rows = Dataset.from_list([{**PROMPTED[0], "images": ["a"]}])
    with pytest.raises(ValueError, match="does not seem to be a vision-language model"):
        make_trainer(train_dataset=rows)


def test_layer_that_does_not_exist(make_trainer):
    with pytest.raises(ValueError, match=r"`sstoken_attention_layer` is 7.*2 layers.*\[0, 1\]"):
        make_trainer(sstoken_attention_layer=7)


def test_full_fine_tuning_without_history(make_trainer):
    make_trainer(peft_config=None, sstoken_gamma=0.0)


def test_an_architecture_whose_attention_cannot_be_read(make_trainer, tmp_path):
    """Its configuration says so; there are no weights."""
    FalconConfig(num_hidden_layers=1).save_pretrained(tmp_path / "falcon")
    rows = Dataset.from_list(PROMPTED)
    with pytest.raises(ValueError, match=r"FalconForCausalLM does not run its attention .*`sstoken_gamma` to 1"):
        make_trainer(model=str(tmp_path / "falcon"), train_dataset=rows)


def test_adapters_of_virtual_tokens(make_trainer):
    config = PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    for strategy in ("sstoken", "random"):
        refused(make_trainer, peft_config=config, sstoken_strategy=strategy, match="PROMPT_TUNING, which adds virtual")


@pytest.mark.parametrize(
    ("environment", "options", "match"),
    [
        ({"CP_SIZE": "2"}, {}, "`parallelism_config` has cp_size=2, which cuts documents into pieces"),
        ({"SP_SIZE": "2"}, {}, "`parallelism_config` has sp_size=2, which cuts documents into pieces"),
        ({"TP_SIZE": "2"}, {}, "`parallelism_config` has tp_size=2, which cuts each layer into pieces"),
        ({"FSDP_VERSION": "1"}, {}, "sharded by FSDP version 1.*`fsdp_version: 2`"),
        ({"FSDP_VERSION": "2"}, {"peft_config": None}, "a history cannot be recorded under FSDP"),
    ],
    ids=str,
)
def test_what_the_launcher_asks_for(make_trainer, monkeypatch, environment, options, match):
    """`accelerate launch` says it in the environment alone."""
    for name, value in environment.items():
        switch, prefix = ("FSDP", "") if name.startswith("FSDP") else ("PARALLELISM_CONFIG", "PARALLELISM_CONFIG_")
        monkeypatch.setenv(f"ACCELERATE_USE_{switch}", "true")
        monkeypatch.setenv(prefix + name, value)
    refused(make_trainer, match=match, **options)
