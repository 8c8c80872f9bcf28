"""Settings of Axolotl that cannot be combined with token selection, refused before data and model are loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import Problem
from sstoken_plugins.histories.below_adapter import WITHOUT_ADAPTER
from sstoken_transformers.unsupported import (
    FSDP,
    ZERO_3,
    unreadable_attention,
    unsupported_recording,
    unsupported_sharding,
)

from .data import unusable_without_prompt

OFF = "Or switch token selection off with `sstoken: {enabled: false}`."

# Switches whose meaning is another loss, or weights that move under the selection's feet.
_SWITCHES = {
    "rl": "trains on preferences or rewards, not on the tokens of single answers: remove it.",
    "reward_model": "trains a model that scores answers, not one that writes them: remove it.",
    "process_reward_model": "trains a model that scores answers, not one that writes them: remove it.",
    "orpo_alpha": "adds ORPO's loss over rejected answers: remove it.",
    "kd_trainer": "trains on a teacher's logits (knowledge distillation): remove it.",
    "use_eaft": "weighs the loss by entropy itself (`compute_loss_func`): set it to false. `strategy: eaft` in "
    "the block `sstoken:` weighs tokens by the same.",
    "liger_use_token_scaling": "weighs the loss of every token itself: set it to false.",
    "relora": "merges the adapter into the base model during training, and with it the history that tokens are "
    "compared with: set it to false.",
}
_PLUGINS = {
    "integrations.diffusion": "trains with its own loss over masked text: remove it.",
    "integrations.hatchery": "trains on another machine: remove it.",
}
_PARALLEL = ("context_parallel_size", "sequence_parallel_degree", "tensor_parallel_size")


def unsupported_settings(cfg: Any, selector: TokenSelector | None) -> Iterator[Problem]:
    """What of a configuration can't be combined with token selection, and why.

    Args:
        selector: None if it is not known what is selected by: then only what never works is found.
    """
    for name, reason in _SWITCHES.items():
        if cfg.get(name):
            value = getattr(cfg[name], "value", cfg[name])
            yield Problem(
                "`{name}` is {value!r}, which {reason} {off}", name=name, value=value, reason=reason, off=OFF
            )
    for module, reason in _PLUGINS.items():
        for plugin in cfg.plugins or []:
            if module in plugin:
                yield Problem("`plugins` has {plugin!r}, which {reason} {off}", plugin=plugin, reason=reason, off=OFF)
    for name in _PARALLEL:
        if (cfg.get(name) or 1) > 1:
            yield Problem(
                "`{name}` is {value}, which cuts samples or layers into pieces, but token selection needs whole "
                "samples on every device: set it to 1 and use data parallelism (DDP, FSDP). {off}",
                name=name,
                value=cfg[name],
                off=OFF,
            )
    if cfg.model_config_type == "mamba":
        yield Problem("`base_model` is of type 'mamba', for which Axolotl computes the loss itself. {off}", off=OFF)
    if selector is None:
        return
    if selector.history is not None and selector.history.requires_adapter and not cfg.adapter:
        yield Problem(
            f"{{history}} is {{name!r}} but `adapter` is not set: {WITHOUT_ADAPTER} (`adapter: lora` or `qlora`; "
            "{history} and {gamma} are in the block `sstoken:`.)",
            name=selector.config.history,
        )
    yield from unreadable_attention(
        selector,
        cfg.base_model_config or cfg.base_model,
        trust_remote_code=bool(cfg.trust_remote_code),
        **({"revision": cfg.revision_of_model} if cfg.revision_of_model else {}),
    )
    sharded = _sharded_by(cfg)
    yield from unsupported_sharding(int(cfg.fsdp_version or 1) if sharded == FSDP else None)
    yield from unsupported_recording(
        selector,
        has_adapter=bool(cfg.adapter),
        streams=bool(cfg.pretraining_dataset or cfg.streaming),
        sharded=sharded,
    )
    if "attention" in selector.needs:
        yield from unusable_without_prompt(cfg, selector)


def _sharded_by(cfg: Any) -> str | None:
    """What will shard the weights; Axolotl has read the stage of a DeepSpeed configuration into the environment."""
    if cfg.deepspeed:
        return ZERO_3 if os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3" else None
    return FSDP if cfg.fsdp_config or cfg.fsdp else None
