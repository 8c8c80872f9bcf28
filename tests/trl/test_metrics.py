"""What plain TRL logs, a run with selection logs too; and beside it the loss that plain training would log."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from trl import SFTTrainer

from .test_training import load, nf4

OWN = ("sstoken/",)


@pytest.fixture(scope="session")
def moe(model_dir, tmp_path_factory):
    """A mixture of experts, with the tokenizer of the other model."""
    import shutil

    folder = tmp_path_factory.mktemp("moe")
    for path in model_dir.iterdir():
        if path.name not in ("config.json", "model.safetensors", "generation_config.json"):
            shutil.copy(path, folder)
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=load(model_dir).config.vocab_size, hidden_size=64, intermediate_size=64, moe_intermediate_size=32,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, num_experts=4,
        num_experts_per_tok=2, initializer_range=0.2, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    Qwen3MoeForCausalLM(config).save_pretrained(folder)
    return folder


def logged(trainer) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]


def names(trainer) -> list[set[str]]:
    timing = ("_runtime", "_per_second")
    return [
        {name for name in entry if not name.startswith(OWN) and not name.endswith(timing)} for entry in logged(trainer)
    ]


CASES = {
    "lora": {},
    "full": {"peft_config": None},
    "4-bit": {"quantization_config": nf4},
    "moe": {"model": "moe"},
    "moe, full": {"model": "moe", "peft_config": None},
    "packed": {"packing": True, "max_length": 64},
    "framework loss": {"sstoken_loss": "framework"},
    "dropout": {"dropout": 0.1},
}
METHODS = ["sstoken", "random", "trimmed", "full"]
# Every method and nearly every case once by default; all of them together take minutes.
FEW = {("lora", "random"), ("4-bit", "sstoken"), ("moe", "full"), ("packed", "trimmed"), ("dropout", "sstoken")}


@pytest.mark.parametrize(
    ("case", "method"),
    [
        pytest.param(case, method, marks=[] if (case, method) in FEW else pytest.mark.slow)
        for case in CASES
        for method in METHODS
    ],
)
def test_what_plain_training_logs(make_trainer, moe, lora, dataset, case, method):
    options = dict(CASES[case])
    if options.get("model") == "moe":
        options["model"] = str(moe)
        if "peft_config" not in options:
            options["peft_config"] = replace(lora, target_modules=["q_proj", "v_proj"])
    if "quantization_config" in options:
        options["quantization_config"] = nf4()
    if options.pop("dropout", 0):
        options["peft_config"] = replace(lora, lora_dropout=0.1)
    if method == "full" and case == "framework loss":
        pytest.skip("the same")
    run = {
        "eval_dataset": dataset.select(range(6)),
        "eval_strategy": "steps",
        "eval_steps": 1,
        "max_steps": 1,
        **options,
    }
    ours = make_trainer(**run, sstoken_strategy=method)
    plain = make_trainer(SFTTrainer, **{k: v for k, v in run.items() if not k.startswith("sstoken")}, sstoken=False)
    ours.train()
    plain.train()
    assert names(ours) == names(plain)
    first, reference = logged(ours)[0], logged(plain)[0]
    for name in names(plain)[0] - {"loss", "grad_norm", "eval_loss"}:
        abs_ = 1e-4 if case not in ("4-bit", "dropout") else 2e-2
        if case == "framework loss" and name in ("entropy", "mean_token_accuracy"):
            continue  # TRL takes them over what still has a label
        assert first[name] == pytest.approx(reference[name], abs=abs_), name
    if case != "framework loss":
        loss = reference["loss"] - 1e-3 * reference.get("aux_loss", 0)  # `router_aux_loss_coef`
        assert first["sstoken/loss_all"] == pytest.approx(loss, abs=1e-5 if case != "4-bit" else 2e-2)


def test_loss_over_all_tokens_is_that_of_plain_training(make_trainer, dataset):
    """Where nothing is dropped both are the same number, over many steps, accumulated and logged seldom."""
    options = {"max_steps": 6, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "logging_steps": 3}
    ours = make_trainer(sstoken_strategy="full", **options)
    ours.train()
    for entry in logged(ours):
        assert entry["sstoken/loss_all"] == pytest.approx(entry["loss"], abs=1e-6)
