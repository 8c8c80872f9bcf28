"""One of several processes that share a model; `tests.sharding` starts it.

Axolotl also forgets what was set up, puts the mesh on GPUs, and ends the process group after a training.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate import ParallelismConfig
from accelerate.state import AcceleratorState
from axolotl.utils import distributed

from .. import sharding
from .conftest import run


def train(wanted: dict[str, Any], settings: dict[str, Any]) -> Any:
    """The trainer, when it is done."""
    forget, end = AcceleratorState._reset_state, torch.distributed.destroy_process_group
    build = ParallelismConfig.build_device_mesh
    distributed.distributed_state = None  # of the run before
    try:
        AcceleratorState._reset_state = lambda reset_partial_state=False: forget()
        torch.distributed.destroy_process_group = lambda: None
        ParallelismConfig.build_device_mesh = lambda config, _: build(config, "cpu")
        return run("train", settings)
    finally:
        AcceleratorState._reset_state, torch.distributed.destroy_process_group = forget, end
        ParallelismConfig.build_device_mesh = build


if __name__ == "__main__":
    sharding.main(train)
