"""Does the data have a prompt to pay attention to?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trl import SFTConfig

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import Problem
from sstoken_transformers.data import nothing_to_choose_by
from sstoken_transformers.files import columns_of, unknown_columns


def without_prompt_in_raw(sample: Mapping[str, Any], args: SFTConfig) -> tuple[str, str] | None:
    """Whether data with the columns of this raw sample will be trained without any prompt.

    Returns:
        What the data are, and what gives them a prompt; None if they have one, or if only their labels will tell.
    """
    if "labels" in sample or "completion_mask" in sample or "assistant_masks" in sample or "input_ids" in sample:
        return None  # tokenised already; `sstoken_transformers.data` looks at the labels
    if args.assistant_only_loss:
        return None
    if "prompt" in sample and "completion" in sample:
        if args.completion_only_loss is False:
            return (
                "`completion_only_loss` is False",
                "With `completion_only_loss` True (or unset) only the completions train, and attend to their prompts.",
            )
    elif "messages" in sample or "conversations" in sample:
        return (
            "The data are conversations and `assistant_only_loss` is False",
            "With `assistant_only_loss` True only the assistant's turns train, and all others are their prompt.",
        )
    elif args.dataset_text_field in sample:
        return (
            f"The data are plain text (column {args.dataset_text_field!r})",
            "Data with columns `prompt` and `completion`, or chats with `assistant_only_loss` True, have prompts.",
        )
    return None


def unusable_without_prompt(sample: Mapping[str, Any], args: SFTConfig, selector: TokenSelector) -> Iterator[Problem]:
    """What is wrong with a raw sample if nothing but a prompt orders its tokens."""
    if found := without_prompt_in_raw(sample, args):
        what, advice = found
        which = f"{what}, so every token trains and there is no prompt"
        yield from nothing_to_choose_by(selector, which, {"hint": f" {advice}"})


def problems_of_columns(dataset: Any, text_field: str, how: str) -> Iterator[Problem]:
    """What is wrong with the names of the columns.

    Args:
        how: the way to rename them, in which `{columns}` is what they may be renamed to.
    """
    columns = columns_of(dataset)
    pair = "prompt" in columns and "completion" in columns
    if columns and not pair and {"messages", "conversations", "input_ids", text_field}.isdisjoint(columns):
        yield unknown_columns(columns, how)


def hint(dataset: Any, args: SFTConfig) -> str:
    """How raw data get a prompt, if they have none."""
    sample = next(iter(dataset), None) if dataset is not None else None
    found = without_prompt_in_raw(sample, args) if isinstance(sample, Mapping) else None
    return found[1] if found else ""
