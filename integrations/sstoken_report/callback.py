"""Reports while training, for any `transformers.Trainer`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import refused

from . import folder as files
from . import panels
from .index import rebuild
from .page import render
from .samples import Samples
from .scoring import score
from .summary import scalars, totals
from .table import Report

logger = logging.getLogger(__name__)
LOGGED = ("keep_rate", "agreement")
"""What trackers show of a report. The index page has the curves of all columns, which would crowd theirs."""


class ReportCallback(TrainerCallback):
    """Writes a report before the first step, every `report_steps`, and after the last.

    The training continues exactly as it would without reports, bit for bit. The keep rate of a
    report and its agreement with the one before go into the log of the next logging step, as
    `sstoken/report_keep_rate` and `sstoken/report_agreement`.

    Raises:
        Refused: if the trainer's data or its processes cannot be looked at.
    """

    def __init__(self, trainer: Any, selector: TokenSelector) -> None:
        steps = selector.config.report_steps
        if not hasattr(trainer.processing_class, "decode"):
            raise refused(
                "{report_steps} is {value}, but the trainer has no tokenizer to show the tokens by: set it to 0, or "
                "give the trainer its `processing_class`.",
                value=steps,
            )
        if trainer.is_deepspeed_enabled:
            raise refused(
                "{report_steps} is {value}, but under DeepSpeed nothing is scored between its steps: set it to 0, or "
                "train with DDP or FSDP.",
                value=steps,
            )
        if not hasattr(trainer.train_dataset, "__len__"):
            raise refused(
                "{report_steps} is {value}, but the training data are a stream, whose samples can be taken once "
                "only: set it to 0, or load the data without streaming.",
                value=steps,
            )
        if selector.config.report_trackers:
            panels.trackers_of(trainer)
        self._trainer = trainer
        self._selector = selector
        self._folder = Path(trainer.args.output_dir) / files.FOLDER
        self._samples: Samples | None = None
        self._last: Report | None = None

    def _tell(self) -> None:
        """The closing line of the training names the page, where the trainer has one."""
        getattr(self._trainer, "token_places", {})["report"] = self._folder / "index.html"

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
        self._samples = Samples.of_training(self._trainer, train_dataloader, self._selector.config.report_samples)
        self._last = None
        if not len(self._samples):
            logger.warning("None of the samples has a response token: there is nothing to report.")
            return
        if args.process_index == 0 and state.global_step == 0 and (aside := files.move_aside(self._folder)):
            logger.warning("The reports of an earlier run were moved to %s.", aside)
        self._report(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The last step is reported here, while the trackers are open.
        if state.global_step % self._selector.config.report_steps == 0 or control.should_training_stop:
            self._report(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The best model, which may be loaded by now, is not the one of the last step.
        if self._last is not None and self._last.step != state.global_step and not args.load_best_model_at_end:
            self._report(state.global_step)

    def _report(self, step: int) -> None:
        if not self._samples:
            return
        report = score(self._trainer, self._selector, self._samples, step)
        for name, (total, count) in totals(report, self._last).items():
            if name not in LOGGED:
                continue
            pair = torch.tensor([total, count], dtype=torch.float64).to(self._trainer.args.device)
            self._selector.metrics.record(f"report_{name}", *pair)
        self._last = report
        if self._trainer.args.process_index != 0:
            return
        means = scalars(report)
        try:
            write(report, self._folder)
        except OSError as error:  # the training is worth more than a page about it
            logger.warning("The report of step %d could not be written: %s.", step, error)
        else:
            self._tell()
            if self._selector.config.report_trackers:
                panels.show(self._trainer, report, files.parquet_path(self._folder, step).with_suffix(".html"))
            logger.info("Report of step %d, %.1f %% kept: %s", step, 100 * means["keep_rate"], self._folder)


def write(report: Report, folder: Path) -> None:
    """Adds a report to a run's folder: the table first, from which the rest can be made again."""
    folder.mkdir(parents=True, exist_ok=True)
    path = files.parquet_path(folder, report.step)
    files.write(path, report.write_parquet)
    files.write_text(path.with_suffix(".html"), render(report, "index.html"))
    rebuild(folder)
