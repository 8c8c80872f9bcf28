"""Everything private of transformers and accelerate that this project leans on; `tests/` says what each is for."""

from __future__ import annotations

from typing import Any

import torch

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def prepare_inputs(trainer: Any, batch: Any) -> Any:
    """A batch on the trainer's device, as a training step gets it."""
    return trainer._prepare_inputs(batch)


def name_or_path(model: Any) -> str:
    """Where a model was loaded from."""
    return str(getattr(model.config, "_name_or_path", "") or "")


def fsdp_version(trainer: Any) -> int | None:
    """1 or 2 if the trainer shards its model by FSDP, else None."""
    if not trainer.is_fsdp_enabled:
        return None
    return int(getattr(trainer.accelerator.state.fsdp_plugin, "fsdp_version", 1))


def as_deepspeed_begins(trainer: Any) -> None:
    """Puts a whole model where DeepSpeed (ZeRO-1 and 2) will put it, in the precision that it will cast it to.

    DeepSpeed does both at its first step, before it makes the optimizer: what is recorded before is of the same model.
    """
    if not trainer.is_deepspeed_enabled:
        return
    config = trainer.accelerator.state.deepspeed_plugin.hf_ds_config
    half = next((dtype for name, dtype in HALF.items() if config.is_true(f"{name}.enabled")), None)
    trainer.model.to(trainer.args.device, dtype=half)


def without_compile(model: Any) -> Any:
    """The model inside of what `torch.compile` makes of one."""
    return getattr(model, "_orig_mod", model)


def model_classes(config: Any) -> list[type]:
    """The classes that transformers makes of a configuration, and of its text part; none of code of other origin."""
    from transformers import AutoModelForCausalLM

    parts = (config, config.get_text_config() if hasattr(config, "get_text_config") else config)
    mapping = AutoModelForCausalLM._model_mapping
    return [mapping[type(part)] for part in parts if type(part) in mapping]
