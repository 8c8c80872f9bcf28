"""`sstoken report RUN_DIR`: the pages of a run, built again from what it left behind."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from . import folder as files


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="sstoken report",
        description="Build a run's index of reports again, and the pages that are missing; also of a run that was "
        "killed.",
    )
    parser.add_argument("run_dir", type=Path, help="the output folder of a training with `report_steps`")
    run_dir = parser.parse_args(argv).run_dir
    logging.basicConfig(format="sstoken report: %(message)s")
    names = (files.FOLDER, files.FOLDER_BEFORE)
    folders = [run_dir] if run_dir.name in names else [run_dir / name for name in names]
    folder = next((each for each in folders if files.reports(each)), folders[0])
    if not files.reports(folder):
        print(
            f"sstoken report: {folder} holds no reports. A training writes them if `report_steps` is set "
            "(--sstoken_report_steps 100; in Axolotl's block `sstoken:`, report_steps: 100).",
            file=sys.stderr,
        )
        return 1
    from .index import rebuild

    steps = rebuild(folder, progress=True)
    if not steps:
        print(f"sstoken report: all reports in {folder} are damaged.", file=sys.stderr)
        return 1
    print(f"{len(steps)} reports, of steps {steps[0]} to {steps[-1]}: {folder / 'index.html'}")
    return 0
