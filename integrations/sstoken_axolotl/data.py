"""Does the data have a prompt to pay attention to?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sstoken_plugins.errors import Problem
from sstoken_transformers.data import NO_PROMPT

OTHERWISE = "Or set {gamma} to 1 in the block `sstoken:` to select by the excess loss alone."


def without_prompts_in_settings(cfg: Any) -> Iterator[Problem]:
    """What is wrong with settings of the data by which they will be trained without any prompt."""
    if cfg.pretraining_dataset:
        yield Problem(f"`pretraining_dataset` is set, {NO_PROMPT}: give `datasets` with prompts. {OTHERWISE}")
    if cfg.train_on_inputs:
        yield Problem(f"`train_on_inputs` is True, {NO_PROMPT}: set it to false. {OTHERWISE}")
    types = [dataset.get("type") for dataset in cfg.datasets or []]
    without = [kind for kind in types if isinstance(kind, str) and kind.split(":")[0] in ("completion", "pretrain")]
    if without and len(without) == len(types):
        yield Problem(
            f"`datasets` have `type: {{kind}}`, {NO_PROMPT}: use a type with prompts, such as `chat_template` or "
            f"`alpaca`. {OTHERWISE}",
            kind=without[0],
        )
