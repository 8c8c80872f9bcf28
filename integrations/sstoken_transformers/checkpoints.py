"""Which checkpoint to resume from, and does it go with this run?

A run that is killed while it saves, or while it deletes an old checkpoint, leaves a folder that looks like one.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from sstoken_plugins.errors import refuse, refused

from .contents import lacking, mixed_up

logger = logging.getLogger(__name__)

# Of an adapter's configuration: what the saved weights mean. Another learning rate or dropout may well be wanted.
MEANING = (
    "peft_type", "r", "lora_alpha", "target_modules", "modules_to_save", "rank_pattern", "alpha_pattern", "use_rslora",
    "use_dora", "bias", "layers_to_transform", "fan_in_fan_out", "target_parameters", "trainable_token_indices",
)  # fmt: skip


def newest_whole_checkpoint(output_dir: Path) -> Path | None:
    """The newest complete checkpoint, if any; a warning names those after it."""
    found = [path for path in output_dir.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        if (reason := lacking(path)) is None:
            return path
        logger.warning("%s is incomplete: it is skipped (%s).", path, reason)
    return None


def sound_checkpoint(resume_from_checkpoint: str | bool | None, output_dir: Path) -> str | bool | None:
    """What to resume from: for True, the newest whole checkpoint.

    Raises:
        Refused: if the checkpoint is incomplete, or holds files that were not saved together.
    """
    if resume_from_checkpoint is True:
        newest = newest_whole_checkpoint(output_dir)
        if newest is None:
            if any(output_dir.glob("checkpoint-*")):  # of which the trainer would take one
                raise refused(
                    "{resume_from_checkpoint} is True, but no checkpoint in {folder!r} is complete: the run was ended "
                    "before the first was saved. Start again without resuming.",
                    folder=str(output_dir),
                )
            return True  # which the trainer refuses itself
        resume_from_checkpoint = str(newest)
    if not resume_from_checkpoint or not Path(resume_from_checkpoint).is_dir():
        return resume_from_checkpoint
    checkpoint = Path(resume_from_checkpoint)
    if reason := lacking(checkpoint):
        other = newest_whole_checkpoint(checkpoint.parent)
        raise refused(
            "{resume_from_checkpoint} is {path!r}, which is incomplete: {advice} ({reason}.)",
            path=str(resume_from_checkpoint),
            advice=f"resume from {other.name}." if other else "no other is left; start again.",
            reason=reason,
        )
    if reason := mixed_up(checkpoint):
        raise refused(
            "{resume_from_checkpoint} is {path!r}, which is not as it was saved: {reason}. The run would "
            "continue from a mixture. Put back what was saved, or resume from another checkpoint.",
            path=str(resume_from_checkpoint),
            reason=reason,
        )
    return resume_from_checkpoint


def refuse_to_drop_selection(resume_from_checkpoint: str | bool | None, output_dir: Path, state_file: str) -> None:
    """Raises:
    Refused: if a run without selection would continue one that has it.
    """
    newest = newest_whole_checkpoint(output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
    if newest and (Path(newest) / state_file).exists():
        raise refused(
            "{resume_from_checkpoint} is {path!r}, which was saved by a run with token selection, but in this run it "
            "is off: every token would train from here on. Switch it on; or, if that is what you want, delete {file} "
            "from the checkpoint.",
            path=str(newest),
            file=state_file,
        )


def refuse_another_adapter(checkpoint: Path, model: Any) -> None:
    """Raises:
    Refused: if the checkpoint's adapter is not of the kind that the model has: its weights would not fit, or would
        mean something else.
    """
    path, configs = checkpoint / "adapter_config.json", getattr(model, "peft_config", None)
    if configs is None or not path.is_file():
        return
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        saved = {name: saved.get(name) for name in MEANING}
    except (ValueError, AttributeError, RecursionError) as error:
        raise refused(
            "{path} is damaged ({error}): resume from another checkpoint.", path=path, error=error
        ) from error
    ours = json.loads(json.dumps(configs[model.active_adapter].to_dict(), default=_plain))
    refuse(
        f"Checkpoint {checkpoint} has an adapter with `{name}` {_shown(saved[name])}, but this run's has "
        f"{_shown(ours.get(name))}: give the run the adapter that it was started with."
        for name in MEANING
        if _comparable(saved[name]) != _comparable(ours.get(name))
    )


def _plain(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, (set, frozenset)) else str(getattr(value, "value", value))


def _comparable(value: Any) -> Any:
    value = sorted(value, key=str) if isinstance(value, list) else value
    return value or None


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 200 else f"{repr(value)[:197]}..."
