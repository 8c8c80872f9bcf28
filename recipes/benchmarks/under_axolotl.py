"""The contenders under Axolotl: a YAML, trained as `axolotl train` trains it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from axolotl.integrations.base import BasePlugin
from contenders import Point, options_of, samples

callbacks: list[Any] = []


class CallbackPlugin(BasePlugin):
    """Puts the benchmark's callback into Axolotl's trainer."""

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Any]:
        return callbacks


def train(name: str, point: Point, folder: Path, callback: Any) -> None:
    """Trains until the callback ends it."""
    from axolotl.cli.train import do_cli

    if point.precision == "bfloat16" or name in ("naive", "bare"):
        raise ValueError(f"Axolotl is measured in float32 and 4bit, and has no {name!r}.")
    callbacks[:] = [callback]
    data, settings = folder / "data.jsonl", folder / "run.yaml"
    data.write_text("".join(json.dumps(row) + "\n" for row in samples(point)))
    settings.write_text(yaml.safe_dump(_settings(name, point, folder, data)))
    sys.argv = ["axolotl"]  # which looks there for more options
    os.environ["ACCELERATE_USE_CPU"] = "true"
    do_cli(config=str(settings))


def _settings(name: str, point: Point, folder: Path, data: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "base_model": point.model,
        "datasets": [{"path": str(data), "ds_type": "json", "split": "train", "type": None}],
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "out"),
        "load_in_4bit": point.precision == "4bit",
        "sequence_len": point.tokens,
        "micro_batch_size": point.batch,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": point.gradient_checkpointing,
        "max_steps": 10_000,
        "learning_rate": 2e-4,
        "optimizer": "adamw_torch",
        "lr_scheduler": "linear",
        "logging_steps": 10,
        "save_strategy": "no",
        "val_set_size": 0.0,
        "bf16": False,
        "attn_implementation": "sdpa",
        "plugins": ["under_axolotl.CallbackPlugin"],
    }
    if point.lora_r:
        settings |= {
            "adapter": "qlora" if point.precision == "4bit" else "lora",
            "lora_r": point.lora_r,
            "lora_alpha": 2 * point.lora_r,
            "lora_target_linear": True,
            "lora_mlp_kernel": False,
            "lora_qkv_kernel": False,
            "lora_o_kernel": False,
        }
    if name != "plain":
        options = {key.removeprefix("sstoken_"): value for key, value in options_of(name).items()}
        if name == "recorded":
            options["history_store"] = str(folder / "store")
        settings["plugins"].append("sstoken_axolotl.SSTokenPlugin")
        settings["sstoken"] = options if "strategy" in options else {**options, "rho": point.rho}
    return settings
