"""One of several processes that share a model: trains after a list of runs, and writes what each logged.

    python -m torch.distributed.run --nproc_per_node 2 -m tests.trl.sharded SPECIFICATION RESULTS

DeepSpeed has a CPU accelerator, and FSDP2 shards on a CPU; accelerate alone sets up neither without a GPU. So its
state is made here first, as it would be with two GPUs, and everything behind that is as users have it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch


def main(specification: Path, results: Path) -> None:
    torch.set_num_threads(1)
    wanted = json.loads(specification.read_text())
    if wanted["by"] == "deepspeed":
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    from accelerate import PartialState
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    state = PartialState(backend="gloo")
    found = {}
    for name, options in wanted["runs"].items():
        AcceleratorState._reset_state()
        if wanted["by"] == "fsdp":
            state.distributed_type = DistributedType.MULTI_GPU
        found[name] = train(wanted["model"], wanted["data"], options)
        if state.is_main_process:
            results.write_text(json.dumps(found))  # after each, so that a crash loses one
        state.wait_for_everyone()


def train(model: str, data: str, options: dict[str, Any]) -> Any:
    """What was logged in each step and how large a share of the weights a process has; or why it was refused."""
    from datasets import load_dataset
    from peft import LoraConfig

    from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer

    lora, resume = options.pop("lora"), options.pop("resume", None)
    torch.manual_seed(7)
    try:
        trainer = SSTokenSFTTrainer(
            model,
            SSTokenSFTConfig(accelerator_config={"use_configured_state": True}, **options),
            train_dataset=load_dataset("json", data_files=data, split="train"),
            peft_config=LoraConfig(**lora) if lora else None,
        )
        trainer.train(resume_from_checkpoint=resume)
    except ValueError as error:
        return str(error)
    weights = list(trainer.model.parameters())
    here = sum(getattr(p, "ds_tensor", p.to_local() if hasattr(p, "to_local") else p).numel() for p in weights)
    whole = sum(getattr(p, "ds_numel", p.numel()) for p in weights)
    return {"log": [entry for entry in trainer.state.log_history if "loss" in entry], "share": here / whole}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
