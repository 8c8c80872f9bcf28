"""Trainings by two processes that share a model: what starts them, what runs in each, and what is compared.

DeepSpeed has a CPU accelerator, and FSDP2 shards on a CPU; accelerate alone sets up neither without a GPU. So its
state is made here first, as it would be with two GPUs, and everything behind that is as users have it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from . import processes

SHARDED = {"zero3", "fsdp2"}
"""The ways to share a model in which no process has all weights."""
PERSISTENT = 200
"""Parameters of at most so many weights are kept whole by ZeRO-3: some of an adapter, and not all."""
NAMES = ("loss", "sstoken/keep_rate", "sstoken/rel_kept", "sstoken/attention_kept", "sstoken/loss_all")


def zero(stage: int) -> dict[str, Any]:
    """A configuration of DeepSpeed. What is partitioned is whole no longer than needed."""
    size = dict.fromkeys(("stage3_max_live_parameters", "stage3_max_reuse_distance"), 0)
    size["stage3_param_persistence_threshold"] = PERSISTENT
    batch = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {
        **dict.fromkeys(batch, "auto"),
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": stage, **size},
    }


def launch(module: str, way: str, wanted: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What two processes found in the runs of `wanted`, by their names; `module` calls `main`."""
    if way.startswith("zero") and find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    folder.mkdir(exist_ok=True)
    by = "deepspeed" if way.startswith("zero") else "fsdp"
    (folder / "wanted.json").write_text(json.dumps({"by": by, **wanted}))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", module]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # ninja is there
    _, output = processes.run(
        sys.executable, *command, folder / "wanted.json", folder / "found.json", timeout=1200, PATH=path,
        DS_ACCELERATOR="cpu",
    )  # fmt: skip
    assert (folder / "found.json").is_file(), output[-5000:]
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    assert found.keys() == wanted["runs"].keys(), output[-5000:]
    return found


def main(train: Callable[[dict[str, Any], Any], Any]) -> None:
    """In one of the processes: trains all runs, and writes after each, so that a crash loses one.

    Args:
        train: gets all that was wanted and one of its runs, and returns the trainer.
    """
    specification, results = map(Path, sys.argv[1:])
    wanted = json.loads(specification.read_text())
    if wanted["by"] == "deepspeed":
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    from accelerate import PartialState
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    state = PartialState(backend="gloo")
    found = {}
    for name, run in wanted["runs"].items():
        AcceleratorState._reset_state()
        if wanted["by"] == "fsdp":
            state.distributed_type = DistributedType.MULTI_GPU
        try:
            found[name] = outcome(train(wanted, run))
        except ValueError as error:
            found[name] = str(error)
        if state.is_main_process:
            results.write_text(json.dumps(found))
        state.wait_for_everyone()


def outcome(trainer: Any) -> dict[str, Any]:
    """What was logged in each step, and how large a share of the weights a process has."""
    weights = list(trainer.model.parameters())
    here = sum(getattr(p, "ds_tensor", p.to_local() if hasattr(p, "to_local") else p).numel() for p in weights)
    whole = sum(getattr(p, "ds_numel", p.numel()) for p in weights)
    return {"log": [entry for entry in trainer.state.log_history if "loss" in entry], "share": here / whole}


def assert_same_steps(way: str, two: Any, one: list[dict[str, Any]], steps: int) -> None:
    """Args:
    two: the `outcome` of two processes.
    one: what one process logged in the same run.
    """
    assert isinstance(two, dict), two
    assert two["share"] == pytest.approx(0.5 if way in SHARDED else 1.0, abs=0.01)
    assert len(two["log"]) == len(one) == steps
    for ours, theirs in zip(two["log"], one, strict=True):
        for name in NAMES:
            if name in theirs:
                assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-5), name
