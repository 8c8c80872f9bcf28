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
