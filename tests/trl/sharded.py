"""One of several processes that share a model; `tests.sharding` starts it."""

from __future__ import annotations

from typing import Any

import torch

from .. import sharding


def train(wanted: dict[str, Any], options: dict[str, Any]) -> Any:
    """The trainer, when it is done."""
    from datasets import load_dataset
    from peft import LoraConfig

    from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer

    lora, resume = options.pop("lora"), options.pop("resume", None)
    torch.manual_seed(7)
    trainer = SSTokenSFTTrainer(
        wanted["model"],
        SSTokenSFTConfig(accelerator_config={"use_configured_state": True}, **options),
        train_dataset=load_dataset("json", data_files=wanted["data"], split="train"),
        peft_config=LoraConfig(**lora) if lora else None,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


if __name__ == "__main__":
    torch.set_num_threads(1)
    sharding.main(train)
