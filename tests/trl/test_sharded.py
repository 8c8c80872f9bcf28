"""Two processes under DeepSpeed or FSDP2 train what one process does, through TRL and accelerate themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ..sharding import SHARDED, assert_same_steps, launch, outcome, zero

# The first run of all compiles an operator of DeepSpeed's.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

STEPS = 4


def fsdp(version: int) -> dict[str, Any]:
    wrap = {"transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"], "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}
    return {"fsdp": True, "fsdp_config": {"version": version, **wrap}}


WAYS = {**{f"zero{stage}": {"deepspeed": zero(stage)} for stage in (1, 2, 3)}, "fsdp2": fsdp(2)}
RUNS: dict[str, dict[str, Any]] = {
    "base": {},
    "recorded": {"sstoken_history": "recorded", "sstoken_history_store": "STORE"},
    "adapter": {"sstoken_history": "adapter", "sstoken_history_adapter": "ADAPTER"},
    "last_visit": {"sstoken_history": "last_visit", "max_steps": 8},
    "snapshot": {"sstoken_history": "snapshot", "sstoken_refresh_steps": 2.0},
    "ema": {"sstoken_history": "ema", "sstoken_ema_alpha": 0.5},
    "full, auto": {"lora": None},
    "full, recorded": {"lora": None, "sstoken_history": "recorded", "sstoken_history_store": "FULL STORE"},
    "full, last_visit": {"lora": None, "sstoken_history": "last_visit", "max_steps": 8},
}
REFUSED = {"full, auto": "cannot be recorded under"}
SAVING = {"save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch", "learning_rate": 1e-2}
RESUMED = {"zero1": "snapshot", "zero2": "snapshot", "zero3": "ema", "fsdp2": "ema"}


@pytest.fixture(scope="module")
def stage(model_dir, adapters, dataset, lora, tmp_path_factory) -> dict[str, Any]:
    """What all runs share, with stores that one process has recorded."""
    folder = tmp_path_factory.mktemp("sharded")
    dataset.to_json(folder / "train.jsonl")
    lora = {name: value for name, value in dataclasses.asdict(lora).items() if name in ("r", "lora_alpha")}
    lora["target_modules"] = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]
    names = {"STORE": folder / "store", "FULL STORE": folder / "full", "ADAPTER": adapters[0]}
    return {"folder": folder, "model": str(model_dir), "lora": lora, "names": {k: str(v) for k, v in names.items()}}


def options_of(stage: dict[str, Any], run: str, folder: Path) -> dict[str, Any]:
    named = {name: stage["names"].get(str(value), value) for name, value in RUNS[run].items()}
    return {
        "lora": stage["lora"], "sstoken": True, "max_steps": STEPS, "logging_steps": 1, "bf16": False,
        "per_device_train_batch_size": 2, "report_to": [], "save_strategy": "no", "disable_tqdm": True,
        "optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "output_dir": str(folder), **named,
    }  # fmt: skip


@pytest.fixture(scope="module")
def alone(stage) -> dict[str, Any]:
    """What one process logs in the same runs, and the stores."""
    from .sharded import train

    found = {}
    for run in RUNS:
        options = options_of(stage, run, stage["folder"] / "alone" / run)
        options |= {"per_device_train_batch_size": 4, "use_cpu": True}
        if "recorded" in run:
            options["sstoken_history_record"] = True
        found[run] = train_alone(train, stage, options)
    return found


def train_alone(train: Any, stage: dict[str, Any], options: dict[str, Any]) -> list[dict[str, float]]:
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(cpu=True)
    wanted = {"model": stage["model"], "data": str(stage["folder"] / "train.jsonl")}
    log: list[dict[str, float]] = outcome(train(wanted, options))["log"]
    AcceleratorState._reset_state(reset_partial_state=True)
    return log


@pytest.fixture(scope="module", params=WAYS)
def together(request, stage, alone) -> tuple[str, dict[str, Any]]:
    """What two processes log in all the runs, one way of sharing."""
    way = request.param
    folder = stage["folder"] / way
    runs = {run: {**options_of(stage, run, folder / run), **WAYS[way]} for run in RUNS}
    whole = {**runs[RESUMED[way]], **SAVING, "max_steps": 8}
    runs["whole"] = {**whole, "output_dir": str(folder / "whole")}
    runs["resumed"] = {
        **whole,
        "output_dir": str(folder / "resumed"),
        "resume": str(folder / "whole" / "checkpoint-6"),
    }
    wanted = {"model": stage["model"], "data": str(stage["folder"] / "train.jsonl"), "runs": runs}
    return way, launch("tests.trl.sharded", way, wanted, folder)


@pytest.mark.parametrize("run", RUNS)
def test_two_processes_are_one(together, alone, run):
    way, found = together
    if way in SHARDED and run in REFUSED:
        assert REFUSED[run] in found[run]
        return
    assert_same_steps(way, found[run], alone[run], RUNS[run].get("max_steps", STEPS))


def test_resuming_continues_exactly(together):
    """Our own state comes back, under whatever loads the model's."""
    _, found = together
    whole, resumed = found["whole"]["log"], found["resumed"]["log"]
    assert len(whole) == 8
    later = [entry for entry in resumed if entry["step"] > 6]
    assert len(later) == 2
    for before, after in zip(whole[6:], later, strict=True):
        for name in ("loss", "sstoken/keep_rate", "sstoken/rel_kept", "sstoken/history_missing"):
            assert before.get(name) == after.get(name), name
