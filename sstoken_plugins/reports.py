"""Reports while training, written by `sstoken_report`, which is imported only if `report_steps` asks for them."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from .config import SSTokenConfig
from .hookspecs import hookimpl

if TYPE_CHECKING:
    from .selector import TokenSelector

PACKAGES = ("jinja2", "matplotlib", "pyarrow")


def require_packages(config: SSTokenConfig) -> None:
    """Raises:
    ValueError: if reports are asked for and cannot be written here.
    """
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if config.report_steps and missing:
        raise ValueError(
            f"`report_steps` is {config.report_steps}, but {', '.join(missing)} is not installed here: run "
            '`pip install "sstoken-plugins[report]"`, or set it to 0.'
        )


@hookimpl
def watch(trainer: Any, selector: TokenSelector) -> None:
    if selector.config.report_steps:
        from sstoken_report.callback import ReportCallback

        trainer.add_callback(ReportCallback(trainer, selector))
