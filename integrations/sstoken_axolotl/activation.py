"""Switches token selection on in a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import as_is, refuse
from sstoken_transformers import look_at_prompts, newest_whole_checkpoint, with_token_selection

from .args import block_of
from .data import hint
from .unsupported import unsupported_settings
from .weights import weights_of_data


def prepare(cfg: Any) -> TokenSelector | None:
    """The selector that the YAML asks for, or None if it is switched off. Needs no data and no model.

    Raises:
        Refused: a ValueError that names every such setting, its value and how to fix it.
    """
    block = block_of(cfg)
    if not block.enabled:
        return None
    selector = TokenSelector(block.token_selection())
    refuse(unsupported_settings(cfg, selector))
    return selector


def activate(selector: TokenSelector, cfg: Any, trainer: Any) -> None:
    """Puts token selection in front of whatever class the trainer has, and says so.

    Raises:
        ValueError: if the data, the model or the trainer's arguments cannot be combined with it.
    """
    if "attention" in selector.needs:
        look_at_prompts(trainer.train_dataset, selector, as_is, hint(cfg))
    if selector.config.has_data_weights:
        selector.data_weights = weights_of_data(selector.config, cfg, trainer.processing_class)
    trainer.__class__ = with_token_selection(type(trainer))
    # Axolotl gives every process's mean the same weight; here, every kept token of the step gets it.
    trainer.args.average_tokens_across_devices = trainer.args.world_size > 1
    trainer.enable_token_selection(selector)
    if cfg.auto_resume_from_checkpoints and not cfg.resume_from_checkpoint:
        # Axolotl takes the newest, also if the run was killed while writing it.
        newest = newest_whole_checkpoint(Path(cfg.output_dir))
        cfg.resume_from_checkpoint = str(newest) if newest else None
        cfg.auto_resume_from_checkpoints = newest is not None
    # Not through the logger: this has to be seen at any log level. Axolotl copies the output into its debug.log.
    trainer.accelerator.print(banner(selector, cfg), flush=True)


def banner(selector: TokenSelector, cfg: Any) -> str:
    lines = [
        "ssToken is ON: this run trains on a selection of the response tokens.",
        selector.summary,
        *([outlook.text()] if (outlook := selector.outlook) else []),
        "See `sstoken/keep_rate` in the log. Evaluation uses every response token.",
    ]
    lines += continues_from_adapter(selector, cfg)
    rule = "=" * max(map(len, lines))
    return "\n".join(["", rule, *lines, rule, ""])


def continues_from_adapter(selector: TokenSelector, cfg: Any) -> list[str]:
    """Lines that say so where the user may not have thought of it."""
    history = selector.history
    if not cfg.lora_model_dir or history is None or not history.below_adapter:
        return []
    return [
        f"NOTE: training continues from `lora_model_dir` {cfg.lora_model_dir},",
        f"but history {history.name!r} is the model below that adapter. To compare with where this run starts,",
        f"set in the block `sstoken:` `history: adapter` and `history_adapter: {cfg.lora_model_dir}`.",
    ]
