"""Does the data have a prompt to pay attention to?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sstoken_transformers.data import NO_PROMPT

WAY_OUT = "Or set `gamma: 1` in the block `sstoken:` to select by the excess loss alone."


def without_prompts_in_settings(cfg: Any) -> Iterator[str]:
    """What is wrong with settings of the data by which they will be trained without any prompt."""
    if cfg.pretraining_dataset:
        yield f"`pretraining_dataset` is set, {NO_PROMPT}: give `datasets` with prompts. {WAY_OUT}"
    if cfg.train_on_inputs:
        yield f"`train_on_inputs` is {cfg.train_on_inputs}, {NO_PROMPT}: set it to false. {WAY_OUT}"
    types = [dataset.get("type") for dataset in cfg.datasets or []]
    without = [kind for kind in types if isinstance(kind, str) and kind.split(":")[0] in ("completion", "pretrain")]
    if without and len(without) == len(types):
        yield (
            f"`datasets` have `type: {without[0]}`, {NO_PROMPT}: use a type with prompts, such as `chat_template` or "
            f"`alpaca`. {WAY_OUT}"
        )
