"""Reports in a tracker, where the user asks for it: they hold training data, which leaves the machine with them."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import escape
from rich.console import Console

from sstoken_plugins.errors import refused

from . import terminal
from .table import Report

logger = logging.getLogger(__name__)

PANEL = "sstoken/report"
TEXT_SAMPLES, TEXT_WIDTH = 10, 110


@dataclass(frozen=True)
class Shown:
    """A report, and the page that was written of it."""

    report: Report
    page: Path


def trackers_of(trainer: Any) -> list[str]:
    """The trackers of a training that can show reports.

    Raises:
        Refused: if there are none.
    """
    given = [str(name) for name in trainer.args.report_to]
    found = [name for name in given if name in TRACKERS]
    if not found:
        raise refused(
            "{report_trackers} is True, but `report_to` names {given}: set it to {known}.",
            given=", ".join(map(repr, given)) or "no tracker",
            known=", ".join(map(repr, TRACKERS)),
        )
    return found


def show(trainer: Any, report: Report, page: Path) -> None:
    """Adds a report to the runs that are open in the trackers of `report_to`; says so where none is."""
    for name in trackers_of(trainer):
        if not TRACKERS[name](trainer, Shown(report, page)):
            logger.warning("No run of %s is open: the report of step %d is in %s alone.", name, report.step, page)


def _wandb(trainer: Any, shown: Shown) -> bool:
    import wandb

    if wandb.run is None:
        return False
    html = wandb.Html(shown.page.read_text(encoding="utf-8"), inject=False)
    wandb.run.log({PANEL: html, "train/global_step": shown.report.step})
    return True


def _trackio(trainer: Any, shown: Shown) -> bool:
    import trackio

    if trackio.context_vars.current_run.get() is None:
        return False
    trackio.log({PANEL: trackio.Html(shown.page, inject=False)}, step=shown.report.step)
    return True


def _tensorboard(trainer: Any, shown: Shown) -> bool:
    """As text, since TensorBoard runs no page: what `sstoken inspect` prints, and where the page is."""
    writers = [getattr(each, "tb_writer", None) for each in trainer.callback_handler.callbacks]
    for writer in filter(None, writers):
        writer.add_text(PANEL, markdown(shown), shown.report.step)
        return True
    return False


TRACKERS: dict[str, Callable[[Any, Shown], bool]] = {
    "wandb": _wandb,
    "trackio": _trackio,
    "tensorboard": _tensorboard,
}
"""By the names of `report_to`. Each says whether a run was open."""


def markdown(shown: Shown) -> str:
    """The first samples, with tokens that are left out as `[-...-]`, as preformatted text."""
    stream = io.StringIO()
    console = Console(file=stream, width=TEXT_WIDTH, color_system=None)
    terminal.show(console, shown.report, TEXT_SAMPLES)
    return (
        f"<p>The page with all samples: <code>{escape(shown.page)}</code></p>\n<pre>{escape(stream.getvalue())}</pre>"
    )
