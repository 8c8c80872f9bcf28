"""Where a run keeps its reports.

OUTPUT_DIR/_sstoken-report/
    index.html             curves, and links to the pages
    step-000100.html       the page of a report
    step-000100.parquet    the report itself: all else can be made from it
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

FOLDER = "_sstoken-report"
"""In the output folder. `push_to_hub` leaves out what begins with an underscore, and reports hold training data."""
FOLDER_BEFORE = "sstoken-report"
"""What it was called by version 0.1."""


def parquet_path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06d}.parquet"


def reports(folder: Path) -> list[tuple[int, Path]]:
    """The steps with a report, and their files, in order."""
    found = [
        (int(match[1]), path)
        for path in folder.glob("step-*.parquet")
        if (match := re.fullmatch(r"step-(\d+)\.parquet", path.name))
    ]
    return sorted(found)


def move_aside(folder: Path) -> Path | None:
    """Renames the folder of an earlier run, if there is one; returns its new name."""
    if not reports(folder):
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    folder.rename(aside)
    return aside


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Has `fill` write the file, which appears whole or not at all.

    Until it is whole it has a random name, and is newly created: files or links that others have put into the folder
    are neither written to nor followed.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    number = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with open(number, "wb") as stream:
            fill(stream)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write(path, lambda stream: stream.write(text.encode("utf-8")))
