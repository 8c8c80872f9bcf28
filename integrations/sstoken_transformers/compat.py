"""Everything private of transformers and accelerate that this project leans on; `tests/` says what each is for."""

from __future__ import annotations

from typing import Any


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


def without_compile(model: Any) -> Any:
    """The model inside of what `torch.compile` makes of one."""
    return getattr(model, "_orig_mod", model)


def model_classes(config: Any) -> list[type]:
    """The classes that transformers makes of a configuration, and of its text part; none of code of other origin."""
    from transformers import AutoModelForCausalLM

    parts = (config, config.get_text_config() if hasattr(config, "get_text_config") else config)
    mapping = AutoModelForCausalLM._model_mapping
    return [mapping[type(part)] for part in parts if type(part) in mapping]
