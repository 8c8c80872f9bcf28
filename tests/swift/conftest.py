"""Real ms-swift runs of a tiny model on a CPU, in this process."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

os.environ["USE_HF"] = "1"
pytest.importorskip("swift", exc_type=ImportError)

import sstoken_swift.plugin
from sstoken_swift.compat import make_trainer, read_arguments

from ..local import sentence, word_llama

PLUGIN = Path(sstoken_swift.plugin.__file__)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    return word_llama(tmp_path_factory.mktemp("tiny-llama"), "")


@pytest.fixture(scope="session")
def chats(tmp_path_factory) -> Path:
    """24 conversations of one exchange."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("chats") / "train.jsonl"
    roles = {"user": (2, 8), "assistant": (3, 12)}
    rows = [
        {"messages": [{"role": role, "content": sentence(rng, *lengths)} for role, lengths in roles.items()]}
        for _ in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def nothing_asked_for() -> None:
    """What a test sets in the environment was seen to outlive it, once swift has run."""
    for name in [name for name in os.environ if name.startswith("SSTOKEN_")]:
        del os.environ[name]


@pytest.fixture
def settings(model_dir, chats, tmp_path) -> dict[str, Any]:
    """A YAML that trains, without ssToken."""
    return {
        "model": str(model_dir), "model_type": "llama", "template": "default", "dataset": [str(chats)],
        "split_dataset_ratio": 0, "dataset_num_proc": 1, "dataloader_num_workers": 0,
        "output_dir": str(tmp_path / "out"),
        "add_version": False, "check_model": False, "tuner_type": "lora", "lora_rank": 4, "lora_dropout": 0,
        "torch_dtype": "float32", "max_steps": 3, "logging_steps": 1, "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1, "learning_rate": 0.1, "optim": "sgd", "lr_scheduler_type": "constant",
        "gradient_checkpointing": False, "save_strategy": "no", "report_to": "none", "use_cpu": True,
    }  # fmt: skip


def flags(settings: dict[str, Any]) -> list[str]:
    """As `swift sft` makes them of a YAML."""
    return [
        part
        for name, value in settings.items()
        for part in (f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)]))
    ]


def build(settings: dict[str, Any], **changes: Any) -> Any:
    """The trainer of `swift sft` with the one line added."""
    return make_trainer(read_arguments(flags({**settings, "external_plugins": str(PLUGIN), **changes})))


def log(trainer: Any, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if "loss" in entry]
