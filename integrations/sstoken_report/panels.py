"""Pages in a tracker, where the user asks for it: they hold training data, which leaves the machine with them."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

logger = logging.getLogger(__name__)

TRACKER = "wandb"
PANEL = "sstoken/report"


def is_installed() -> bool:
    """Whether the tracker that can show pages is there."""
    return importlib.util.find_spec(TRACKER) is not None


def show(page: Path, step: int) -> None:
    """Adds a page to the run of Weights & Biases that is open in this process; says so if none is."""
    import wandb

    if wandb.run is None:
        logger.warning(
            "`report_wandb` is True, but no run of Weights & Biases is open: set `report_to` to 'wandb'. The page of "
            "step %d is in %s.",
            step,
            page,
        )
        return
    wandb.run.log({PANEL: wandb.Html(page.read_text(encoding="utf-8"), inject=False), "train/global_step": step})
