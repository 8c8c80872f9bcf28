"""A tiny model, a word-level tokenizer and data, made here; everything else is real TRL, PEFT and bitsandbytes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

import torch
from datasets import Dataset
from peft import LoraConfig

from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer

from ..local import learned_adapter, sentence, word_llama

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content }} </s>{% endgeneration %}{% else %}{{ message.content }} {% endif %}"
    "{% endfor %}"
)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    return word_llama(tmp_path_factory.mktemp("tiny-llama"), CHAT_TEMPLATE)


@pytest.fixture(scope="session")
def lora() -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"])


@pytest.fixture(scope="session")
def adapters(model_dir, lora, tmp_path_factory) -> list[Path]:
    """Two different adapters that have learned something."""
    return [learned_adapter(model_dir, lora, tmp_path_factory.mktemp("adapter"), seed) for seed in (1, 2)]


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    rng = random.Random(0)
    return Dataset.from_list(
        [{"prompt": sentence(rng, 2, 8), "completion": " " + sentence(rng, 3, 12)} for _ in range(24)]
    )


@pytest.fixture(scope="session")
def conversations() -> Dataset:
    rng = random.Random(1)

    def turn(role: str) -> dict[str, str]:
        return {"role": role, "content": sentence(rng, 2, 6)}

    return Dataset.from_list([{"messages": [turn("user"), turn("assistant")] * rng.randint(1, 3)} for _ in range(24)])


@pytest.fixture
def make_trainer(model_dir, lora, dataset, tmp_path):
    """Builds a trainer; what is not named has the value that most stories want."""

    def build(cls=SSTokenSFTTrainer, *, model=None, peft_config=lora, train_dataset=dataset, **options):
        named = {
            key: options.pop(key)
            for key in (
                "eval_dataset",
                "compute_loss_func",
                "quantization_config",
                "processing_class",
                "formatting_func",
            )
            if key in options
        }
        defaults = {
            "output_dir": tmp_path / "out",
            "sstoken": True,
            "max_steps": 2,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "bf16": False,
            "use_cpu": True,
            "report_to": [],
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        # PEFT draws the adapter's weights; TRL before 1.16 does not seed them.
        torch.manual_seed(7)
        return cls(
            model=str(model_dir) if model is None else model,
            args=SSTokenSFTConfig(**{**defaults, **options}),
            train_dataset=train_dataset,
            peft_config=peft_config,
            **named,
        )

    return build


@pytest.fixture
def settings(model_dir, dataset, tmp_path) -> dict[str, Any]:
    """Flags and keys of a training, without ssToken."""
    (tmp_path / "data").mkdir()
    dataset.to_json(tmp_path / "data" / "train.jsonl")
    return {
        "model_name_or_path": str(model_dir),
        "dataset_name": str(tmp_path / "data"),
        "output_dir": str(tmp_path / "out"),
        "use_peft": True,
        "lora_r": 4,
        "lora_target_modules": ["q_proj", "v_proj"],
        "max_steps": 2,
        "logging_steps": 1,
        "per_device_train_batch_size": 2,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
    }
