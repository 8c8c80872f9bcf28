"""Does the data have a prompt to pay attention to?"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)

NO_PROMPT = "so every token counts as response and no prompt is left to pay attention to"
WAY_OUT = "Or set `gamma: 1` in the block `sstoken:` to select by the excess loss alone."
LOOKED_AT = 1000


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


def require_prompts(dataset: Any) -> None:
    """Judges the labels of the first samples, as they will be trained.

    Raises:
        ValueError: if none of them has a token without label.
    """
    if not hasattr(dataset, "select") or "labels" not in (dataset.column_names or ()):
        return  # a stream, which has no first samples to look at without consuming them
    rows = dataset.select_columns("labels").select(range(min(LOOKED_AT, len(dataset))))
    without = sum(-100 not in row["labels"] for row in rows)
    if len(rows) and without == len(rows):
        raise ValueError(
            f"All of the first {len(rows)} samples have a label on every token, {NO_PROMPT}: see `train_on_inputs`, "
            f"`roles_to_train` and the `type` of your `datasets`. {WAY_OUT}"
        )
    if without:
        logger.warning(
            "%d of the first %d samples have no prompt: their tokens are chosen by the excess loss alone.",
            without,
            len(rows),
        )
