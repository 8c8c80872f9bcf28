"""Everything private of TRL and its neighbours that this integration leans on; `tests/trl/test_compat.py` says what
each is for, and fails where it changes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from trl import SFTConfig, SFTTrainer, TrlParser

# Before 1.16, the default loss is computed in chunks and gives a scalar; since then `loss_type` "nll" does that.
COMPUTES_LOSS_IN_CHUNKS = SFTConfig.loss_type is None


class MetaTrainer(SFTTrainer):
    """Prepares data and adapter as for a training, for a model without weights."""

    def _move_model_to_device(self, model: Any, device: Any) -> Any:
        return model  # which has no weights to move


def knows_flag(parser: TrlParser, flag: str) -> bool:
    """Whether a parser has a flag of this name."""
    return flag in parser._option_string_actions


def accelerate_config(arguments: Sequence[str]) -> list[str]:
    """The launcher's arguments with the name of one of TRL's own configurations replaced by its path."""
    from trl.cli.accelerate_config import resolve_accelerate_config_argument

    resolved: list[str] = resolve_accelerate_config_argument(list(arguments))
    return resolved


def launcher_flags() -> frozenset[str]:
    """All flags of `accelerate launch`, and TRL's own for one of its configurations."""
    from accelerate.commands.launch import launch_command_parser

    return frozenset((*launch_command_parser()._option_string_actions, "--accelerate_config"))


def training_template(tokenizer: Any) -> str | None:
    """The chat template that marks what the assistant says, where TRL takes another than the tokenizer's; else None.

    Raises:
        ValueError: if the tokenizer's does not mark it, and TRL knows no other.
    """
    from trl.chat_template_utils import get_training_chat_template

    if "{% generation" in tokenizer.chat_template.replace("{%-", "{%"):
        return None
    template: str | None = get_training_chat_template(tokenizer)
    return template


def load_model(path: str, **options: Any) -> Any:
    """A model as `SFTTrainer` loads it from a name."""
    from trl.trainer.utils import create_model_from_path

    return create_model_from_path(path, **options)


def preparation(trainer: SFTTrainer, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The arguments of `SFTTrainer._prepare_dataset`, by name: `dataset`, `packing`, `dataset_name`, ..."""
    bound = inspect.signature(SFTTrainer._prepare_dataset).bind(trainer, *args, **kwargs)
    return {name: value for name, value in bound.arguments.items() if name != "self"}
