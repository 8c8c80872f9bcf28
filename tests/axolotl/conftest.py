"""Real Axolotl runs of a tiny model on a CPU. One process runs them all: importing Axolotl takes longer than a run."""

from __future__ import annotations

import csv
import gc
import json
import os
import random
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("axolotl")

import torch
import yaml
from axolotl.integrations.base import PluginManager
from axolotl.utils.tee import close_debug_log
from peft import LoraConfig

from ..local import learned_adapter, sentence, word_llama
from . import spy

torch.set_num_threads(1)  # nothing here is large enough to share

SSTOKEN = "sstoken_axolotl.SSTokenPlugin"
SPY = "tests.axolotl.spy.SpyPlugin"
ONE_KERNEL = "tests.axolotl.spy.OneKernelPlugin"
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} </s>{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    special = ["<user>", "<assistant>", "<system>"]
    return word_llama(tmp_path_factory.mktemp("tiny-llama"), CHAT_TEMPLATE, special)


@pytest.fixture(scope="session")
def adapters(model_dir, tmp_path_factory) -> list[Path]:
    """Two different adapters that have learned something."""
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"])
    return [learned_adapter(model_dir, lora, tmp_path_factory.mktemp("adapter"), seed) for seed in (1, 2)]


@pytest.fixture(scope="session")
def chats(tmp_path_factory) -> Path:
    """24 conversations of one to three exchanges."""
    rng = random.Random(0)

    def turn(role: str) -> dict[str, str]:
        return {"role": role, "content": sentence(rng, 2, 8)}

    rows = [{"messages": [turn("user"), turn("assistant")] * rng.randint(1, 3)} for _ in range(24)]
    return write(tmp_path_factory.mktemp("chats") / "train.jsonl", rows)


@pytest.fixture(scope="session")
def four_chats(chats) -> Path:
    rows = [json.loads(line) for line in chats.read_text().splitlines()]
    return write(chats.with_name("four.jsonl"), rows[:4])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """Where Axolotl keeps tokenised data, so that runs on the same data share them."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture
def settings(model_dir, chats, prepared, tmp_path) -> dict[str, Any]:
    """A YAML that trains, without ssToken."""
    return {
        "base_model": str(model_dir),
        "datasets": data(chats),
        "dataset_prepared_path": str(prepared),
        "dataset_num_proc": 1,
        "output_dir": str(tmp_path / "out"),
        "adapter": "lora",
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_target_linear": True,
        "lora_mlp_kernel": False,
        "lora_qkv_kernel": False,
        "lora_o_kernel": False,
        "sequence_len": 256,
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "lr_scheduler": "constant",
        "optimizer": "adamw_torch",
        "logging_steps": 1,
        "save_strategy": "no",
        "val_set_size": 0.0,
        "bf16": False,
        "attn_implementation": "sdpa",
        "seed": 7,
    }


def data(path: Path, **changes: Any) -> list[dict[str, Any]]:
    return [{"path": str(path), "ds_type": "json", "type": "chat_template", "split": "train", **changes}]


def run(command: str, settings: dict[str, Any]) -> Any:
    """`axolotl <command>` in this process. Returns the trainer if a spy was among the plugins of a training."""
    path = Path(settings["output_dir"]).with_suffix(".yaml")
    path.write_text(yaml.safe_dump({name: value for name, value in settings.items() if value is not None}))
    manager = PluginManager.get_instance()
    manager.plugins.clear()
    manager.cfg = None
    spy.trainers.clear()
    torch.manual_seed(7)  # PEFT draws the adapter's weights; Axolotl seeds its trainer only
    argv, sys.argv = sys.argv, ["axolotl"]  # Axolotl looks there for more options
    environment = dict(os.environ)  # and leaves much behind here
    command_line = import_module(f"axolotl.cli.{command}")
    gc.freeze()  # Axolotl collects garbage often, and would look through all that was ever imported
    try:
        command_line.do_cli(config=str(path))
    finally:
        gc.unfreeze()
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environment)
        close_debug_log()
        manager.plugins.clear()
    return spy.trainers.pop() if spy.trainers else None


def train(settings: dict[str, Any], **changes: Any) -> Any:
    """Trains with ssToken and the spy beside it."""
    return run("train", {**settings, "plugins": [SPY, SSTOKEN], **changes})


def evaluation(settings: dict[str, Any]) -> dict[str, float]:
    """What `axolotl evaluate` finds on the validation data."""
    run("evaluate", settings)
    with open(Path(settings["output_dir"]) / "eval_summary.csv", newline="") as file:
        return {row["metric"]: float(row["validation"]) for row in csv.DictReader(file) if row["validation"]}


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
