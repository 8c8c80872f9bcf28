"""Two processes under DeepSpeed or FSDP2 train what one process does, through Axolotl itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..sharding import assert_same_steps, launch, zero
from .conftest import SPY, SSTOKEN
from .conftest import run as axolotl

# The first run of all compiles an operator of DeepSpeed's.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

STEPS = 4
FSDP2 = {
    "fsdp_version": 2,
    "fsdp_config": {
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "transformer_layer_cls_to_wrap": "LlamaDecoderLayer",
        "state_dict_type": "FULL_STATE_DICT",
    },
}
WAYS = {"zero2": {"deepspeed": zero(2)}, "zero3": {"deepspeed": zero(3)}, "fsdp2": FSDP2}
RUNS: dict[str, dict[str, Any]] = {
    "base": {},
    "recorded": {"history": "recorded", "history_store": "STORE"},
    "snapshot": {"history": "snapshot", "refresh_steps": 2},
    "ema": {"history": "ema", "ema_alpha": 0.5},
    "full, recorded": {"history": "recorded", "history_store": "FULL STORE"},
}


@pytest.fixture(scope="module")
def stage(model_dir, chats, prepared, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sharded")


def settings_of(run: str, shared: dict[str, Any], folder: Path, stage: Path) -> dict[str, Any]:
    stores = {"STORE": str(stage / "store"), "FULL STORE": str(stage / "full")}
    return {
        **shared,
        **({"adapter": None} if "full" in run else {}),
        "plugins": [SPY, "tests.axolotl.spy.OnCpuPlugin", SSTOKEN],
        "sstoken": {name: stores.get(str(value), value) for name, value in RUNS[run].items()},
        "curriculum_sampling": True,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "max_steps": STEPS,
        "micro_batch_size": 2,
        "output_dir": str(folder / run.replace(", ", "-")),
    }


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_are_one(settings, stage, way):
    alone = train_alone(settings, stage)
    runs = {run: settings_of(run, settings, stage / way, stage) | WAYS[way] for run in RUNS}
    for run in runs.values():
        run["accelerator_config"] = {"use_configured_state": True}
    found = launch("tests.axolotl.sharded", way, {"runs": runs}, stage / way)
    for run, one in alone.items():
        assert_same_steps(way, found[run], one, STEPS)


def train_alone(shared: dict[str, Any], stage: Path) -> dict[str, list[dict[str, Any]]]:
    """What one process logs in the same runs, once; it records the stores."""
    path = stage / "alone.json"
    if not path.is_file():
        logs = {}
        for run in RUNS:
            settings = settings_of(run, shared, stage / "alone", stage) | {"micro_batch_size": 4}
            Path(settings["output_dir"]).mkdir(parents=True)
            if "recorded" in run:
                settings["sstoken"]["history_record"] = True
            logs[run] = [entry for entry in axolotl("train", settings).state.log_history if "loss" in entry]
        path.write_text(json.dumps(logs))
    found: dict[str, list[dict[str, Any]]] = json.loads(path.read_text())
    return found
