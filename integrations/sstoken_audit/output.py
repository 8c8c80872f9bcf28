"""Writing what was found. Nothing is written over, unless the user says so."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from .data import Source
from .errors import AuditError
from .result import AuditResult

MARKER = "sstoken-audit.json"
PAGE, TABLE, LINES = "index.html", "scores.parquet", "scores.jsonl"


def claim(folder: Path, force: bool = False) -> None:
    """Makes the folder of the report, or takes over that of an earlier audit.

    Raises:
        AuditError: if it holds anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise AuditError(f"--out {folder} is a file: choose a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file() and not force:
        raise AuditError(f"--out {folder} holds something else than an earlier audit: choose another, or add --force.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
    except OSError as error:
        raise AuditError(f"--out {folder} cannot be written: {error.strerror}.") from error


def refuse_existing(files: Mapping[str, Path | None], force: bool, data: Path | None = None) -> None:
    """Raises:
    AuditError: if a file that an option names exists, or two options name the same, or one names the data.
    """
    seen: dict[Path, str] = {}
    for option, path in files.items():
        if path is None:
            continue
        real = path.resolve()
        if data is not None and real == data.resolve():
            raise AuditError(f"{option} is {path}, the data themselves: choose another file.")
        if real in seen:
            raise AuditError(f"{option} and {seen[real]} both name {path}: choose two files.")
        seen[real] = option
        if path.exists() and not force:
            raise AuditError(f"{option}: {path} exists already. Choose another file, or add --force.")
        if not path.parent.is_dir():
            raise AuditError(f"{option}: the folder {path.parent} does not exist.")


def write_report(result: AuditResult, folder: Path) -> Path:
    """Page and tables; returns the page's path."""
    from .page import render

    numbers = range(len(result))
    _write(folder / LINES, lambda file: file.writelines(_lines(result.row(number) for number in numbers)))
    _write_parquet(result, folder / TABLE)
    _write(folder / PAGE, lambda file: file.write(render(result)))
    counts = {finding.check.name: int(finding.flagged.sum()) for finding in result.findings}
    about = {**result.about, "flagged": int(result.flagged.sum()), "checks": counts}
    _write(
        folder / MARKER, lambda file: file.write(json.dumps(about, indent=1, ensure_ascii=False, default=str) + "\n")
    )
    return folder / PAGE


def write_split(
    result: AuditResult, source: Source, clean: Path | None, suspects: Path | None, weights: Path | None
) -> None:
    """Writes the rows without and with a flag as they are, and a weight for each row."""
    flagged = result.flagged
    for path, wanted in ((clean, False), (suspects, True)):
        if path is not None:
            _write_rows(path, source, np.flatnonzero(flagged == wanted))
    if weights is not None:
        lines: Iterator[dict[str, object]] = (
            {"row": n, "weight": round(float(w), 4)} for n, w in enumerate(result.weights)
        )
        _write(weights, lambda file: file.writelines(_lines(lines)))


def _write_rows(path: Path, source: Source, numbers: np.ndarray) -> None:
    _write(path, lambda file: file.writelines(source.line(number) + "\n" for number in numbers.tolist()))


def _lines(rows: Iterator[dict[str, object]]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(result: AuditResult, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = len(result)
    columns = {"suspicion": result.suspicion, "flagged": result.flagged, "weight": result.weights, **result.columns()}
    table = pa.table(
        {
            "row": pa.array(range(n), pa.int64()),
            **{name: pa.array(values, from_pandas=True) for name, values in columns.items()},
            "reasons": pa.array([result.reasons(number) for number in range(n)], pa.list_(pa.string())),
        }
    )
    _write(path, lambda file: pq.write_table(table, file), mode="wb")


def _write(path: Path, write: Callable[[IO[str]], object], mode: str = "w") -> None:
    """Writes under a random name, then renames: a file is whole or not there."""
    handle, unfinished = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    try:
        with os.fdopen(
            handle, mode, encoding=None if "b" in mode else "utf-8", newline=None if "b" in mode else "\n"
        ) as file:
            write(file)
        os.chmod(unfinished, 0o666 & ~_umask())
        os.replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
