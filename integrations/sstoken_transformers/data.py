"""Does the data have a prompt to pay attention to?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from sstoken_plugins.errors import Problem, refuse

logger = logging.getLogger(__name__)

NO_PROMPT = "so every token counts as response and no prompt is left to pay attention to"
LOOKED_AT = 1000


def require_prompts(dataset: Any, how_to_fix: str) -> None:
    """Judges the labels of the first samples, as they will be trained; `how_to_fix` ends the error's message.

    Raises:
        Refused: if none of them has a token without label.
    """
    refuse(without_prompts(dataset, how_to_fix))
    n_without, n = count_without_prompt(dataset)
    if n_without:
        logger.warning(
            "%d of the first %d samples have no prompt: their tokens are chosen by the excess loss alone.",
            n_without,
            n,
        )


def without_prompts(dataset: Any, how_to_fix: str) -> Iterator[Problem]:
    """What is wrong if none of the first samples has a prompt."""
    n_without, n = count_without_prompt(dataset)
    if n and n_without == n:
        yield Problem(
            f"All of the first {{n}} samples have a label on every token, {NO_PROMPT}: mark the prompt with -100 in "
            f"`labels`, or have the framework do it by the data's format and settings. {how_to_fix}",
            n=n,
        )


def count_without_prompt(dataset: Any) -> tuple[int, int]:
    """Of the first samples: how many have a label on every token, and how many were looked at."""
    if not hasattr(dataset, "select") or "labels" not in (dataset.column_names or ()):
        return 0, 0  # a stream, which has no first samples to look at without consuming them
    rows = dataset.select_columns("labels").select(range(min(LOOKED_AT, len(dataset))))
    return sum(-100 not in row["labels"] for row in rows), len(rows)
