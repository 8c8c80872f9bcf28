"""Registers reports: their options, and the callback that writes them. Imported in every run, so it imports little."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sstoken_plugins import NoOptions, Problem, TokenSelector, hookimpl, option
from sstoken_plugins.installing import how_to_install

PACKAGES = ("jinja2", "matplotlib", "pyarrow", "tqdm")


@dataclass(frozen=True)
class ReportOptions(NoOptions):
    report_steps: int = option(
        0,
        "Every so many optimizer steps, write a page that shows the tokens selected in a few training samples, into "
        "`_sstoken-report` in the output folder. Each costs the scoring of `report_samples` samples. 0: none.",
        valid=lambda steps: steps >= 0,
        otherwise=": set it to a number of optimizer steps, or to 0 for no reports.",
    )
    report_samples: int = option(
        50,
        "How many training samples `report_steps` shows.",
        valid=lambda samples: samples >= 1,
        otherwise=", but it is the number of samples that a report shows: set it to 1 or more.",
    )

    report_trackers: bool = option(
        False,
        "Whether each report of `report_steps` is also shown in the trackers of `report_to`: the page in Weights & "
        "Biases and trackio, the first samples as text in TensorBoard. It holds training data, which is then sent "
        "there.",
    )

    def problems(self) -> Iterator[Problem]:
        missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
        if self.report_steps and missing:
            yield Problem(
                "{report_steps} is {value}, but {missing} {verb} not installed here: run "
                "`{how}`, or set {report_steps} to 0.",
                how=how_to_install("report"),
                value=self.report_steps,
                missing=", ".join(missing),
                verb="is" if len(missing) == 1 else "are",
            )
        if self.report_trackers and not self.report_steps:
            yield Problem(
                "{report_trackers} is True, but {report_steps} is 0, so there are no reports: set {report_steps}."
            )


@hookimpl
def register_extensions(register: Callable[[str, type], None]) -> None:
    register("report", ReportOptions)


@hookimpl
def watch(trainer: Any, selector: TokenSelector) -> None:
    if selector.config.report_steps:
        from .callback import ReportCallback

        trainer.add_callback(ReportCallback(trainer, selector))
