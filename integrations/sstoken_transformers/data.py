"""Does the data have a prompt to pay attention to?"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)

NO_PROMPT = "so every token counts as response and no prompt is left to pay attention to"
LOOKED_AT = 1000


def require_prompts(dataset: Any, way_out: str) -> None:
    """Judges the labels of the first samples, as they will be trained; `way_out` ends the error's message.

    Raises:
        ValueError: if none of them has a token without label.
    """
    if not hasattr(dataset, "select") or "labels" not in (dataset.column_names or ()):
        return  # a stream, which has no first samples to look at without consuming them
    rows = dataset.select_columns("labels").select(range(min(LOOKED_AT, len(dataset))))
    without = sum(-100 not in row["labels"] for row in rows)
    if len(rows) and without == len(rows):
        raise ValueError(
            f"All of the first {len(rows)} samples have a label on every token, {NO_PROMPT}: mark the prompt with "
            f"-100 in `labels`, or have the framework do it by the data's format and settings. {way_out}"
        )
    if without:
        logger.warning(
            "%d of the first %d samples have no prompt: their tokens are chosen by the excess loss alone.",
            without,
            len(rows),
        )
