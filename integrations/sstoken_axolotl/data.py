"""Does the data have a prompt to pay attention to?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import Problem
from sstoken_transformers.data import nothing_to_choose_by


def without_prompt_in_settings(cfg: Any) -> tuple[str, str] | None:
    """Whether the settings say that the data will be trained without any prompt.

    Returns:
        Which setting, and what gives the data a prompt; None if they have one, or if only their labels will tell.
    """
    if cfg.pretraining_dataset:
        return "`pretraining_dataset` is set", "Data with prompts are given as `datasets`."
    types = [dataset.get("type") for dataset in cfg.datasets or []]
    if cfg.train_on_inputs and "chat_template" not in types:  # which leaves what is between the turns unlabelled
        return "`train_on_inputs` is True", "With `train_on_inputs: false` only the answers train."
    without = [kind for kind in types if isinstance(kind, str) and kind.split(":")[0] in ("completion", "pretrain")]
    if without and len(without) == len(types):
        return (
            f"`datasets` have `type: {without[0]}`",
            "Types such as `chat_template` and `alpaca` have prompts.",
        )
    return None


def unusable_without_prompt(cfg: Any, selector: TokenSelector) -> Iterator[Problem]:
    """What is wrong with such settings if nothing but a prompt orders the tokens."""
    if found := without_prompt_in_settings(cfg):
        what, advice = found
        which = f"{what}, so every token trains and there is no prompt"
        yield from nothing_to_choose_by(selector, which, {"hint": f" {advice}"})


def hint(cfg: Any) -> str:
    """How the data get a prompt, if they have none."""
    found = without_prompt_in_settings(cfg)
    return found[1] if found else ""
