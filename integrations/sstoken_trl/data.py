"""Does the data have a prompt to pay attention to?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trl import SFTConfig

from sstoken_plugins.errors import Problem
from sstoken_transformers.data import NO_PROMPT

OTHERWISE = "Or set {gamma} to 1 to select by the excess loss alone."


def without_prompt_in_raw(sample: Mapping[str, Any], args: SFTConfig) -> Iterator[Problem]:
    """What is wrong if data with the columns of this raw sample will be trained without any prompt."""
    if "labels" in sample or "completion_mask" in sample or "assistant_masks" in sample or "input_ids" in sample:
        return  # tokenised already; `sstoken_transformers.data` looks at the labels
    if "prompt" in sample and "completion" in sample:
        if args.completion_only_loss is False and not args.assistant_only_loss:
            yield Problem(
                f"`completion_only_loss` is False, {NO_PROMPT}: set it to True (or leave it unset). {OTHERWISE}"
            )
    elif ("messages" in sample or "conversations" in sample) and not args.assistant_only_loss:
        yield Problem(
            f"The data are conversations and `assistant_only_loss` is False, {NO_PROMPT}: set `assistant_only_loss` "
            f"to True, or give the data as `prompt` and `completion`. {OTHERWISE}"
        )
    elif args.dataset_text_field in sample and not args.assistant_only_loss:
        yield Problem(
            f"The data are plain text (column {{column!r}}), {NO_PROMPT}: give them as `prompt` and `completion`, or "
            f"as `messages` with `assistant_only_loss=True`. {OTHERWISE}",
            column=args.dataset_text_field,
        )


def images(sample: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with vision data."""
    for column in ("image", "images"):
        if column in sample:
            yield Problem(
                "The data have a column {column!r}: token selection supports text only. Set `sstoken` to False for "
                "vision data.",
                column=column,
            )
