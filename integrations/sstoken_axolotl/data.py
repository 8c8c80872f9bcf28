"""Does the data have a prompt to pay attention to?"""

from __future__ import annotations

from typing import Any

from sstoken_transformers.data import NO_PROMPT

WAY_OUT = "Or set `gamma: 1` in the block `sstoken:` to select by the excess loss alone."


def require_prompts_in_settings(cfg: Any) -> None:
    """Judges the data by their settings, before they are loaded.

    Raises:
        ValueError: if they will be trained without any prompt.
    """
    if cfg.pretraining_dataset:
        raise ValueError(f"`pretraining_dataset` is set, {NO_PROMPT}: give `datasets` with prompts. {WAY_OUT}")
    if cfg.train_on_inputs:
        raise ValueError(f"`train_on_inputs` is {cfg.train_on_inputs}, {NO_PROMPT}: set it to false. {WAY_OUT}")
    types = [dataset.get("type") for dataset in cfg.datasets or []]
    without = [kind for kind in types if isinstance(kind, str) and kind.split(":")[0] in ("completion", "pretrain")]
    if without and len(without) == len(types):
        raise ValueError(
            f"`datasets` have `type: {without[0]}`, {NO_PROMPT}: use a type with prompts, such as `chat_template` or "
            f"`alpaca`. {WAY_OUT}"
        )
