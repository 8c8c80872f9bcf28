"""Which checkpoint to resume from? A run that is killed while it saves leaves a folder that looks like one."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from sstoken_plugins.errors import refused

logger = logging.getLogger(__name__)


def newest_whole_checkpoint(output_dir: Path) -> Path | None:
    """The newest complete checkpoint, if any; a warning names those after it."""
    found = [path for path in output_dir.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        if _is_whole(path):
            return path
        logger.warning("%s is incomplete: it is skipped.", path)
    return None


def sound_checkpoint(resume_from_checkpoint: str | bool | None, output_dir: Path) -> str | bool | None:
    """What to resume from: for True, the newest whole checkpoint.

    Raises:
        Refused: if the checkpoint that is named is incomplete.
    """
    if resume_from_checkpoint is True:
        newest = newest_whole_checkpoint(output_dir)
        return str(newest) if newest else True  # which the trainer refuses itself
    if (
        resume_from_checkpoint
        and Path(resume_from_checkpoint).is_dir()
        and not _is_whole(Path(resume_from_checkpoint))
    ):
        other = newest_whole_checkpoint(Path(resume_from_checkpoint).parent)
        raise refused(
            "{resume_from_checkpoint} is {path!r}, which is incomplete: {advice}",
            path=str(resume_from_checkpoint),
            advice=f"resume from {other.name}." if other else "no other is left; start again.",
        )
    return resume_from_checkpoint


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))  # the last that is written
    except (OSError, ValueError):
        return False
    return True
