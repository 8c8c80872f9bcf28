"""Reading the user's rows: the only module that knows files and data sets.

A `Source` gives rows by number and never changes one. JSONL files are read line by line and written back byte for
byte; everything else comes through `datasets`, which keeps the rows on disk. So memory does not grow with the data,
except by 8 bytes a line.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from sstoken_plugins.errors import Refused
from sstoken_transformers import files

from .errors import AuditError

Row = dict[str, Any]


class Source(ABC):
    """Rows by number, from 0.

    Attributes:
        name: what the user called the data.
    """

    name: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, number: int) -> Row:
        """Raises:
        AuditError: naming the row, if it cannot be read.
        """

    def line(self, number: int) -> str:
        """The row as one line of JSON, without a line end."""
        return json.dumps(self.row(number), ensure_ascii=False, default=str)


class Lines(Source):
    """A JSONL file. Empty lines are no rows."""

    def __init__(self, path: Path) -> None:
        self.name, self._path = str(path), path
        offsets, at = [], 0
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    offsets.append(at)
                at += len(line)
        self._offsets = np.array(offsets, np.int64)
        self._file = path.open("rb")

    def __len__(self) -> int:
        return len(self._offsets)

    def line(self, number: int) -> str:
        self._file.seek(self._offsets[number])
        try:
            return self._file.readline().decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise AuditError(
                f"{self.name}, row {number}: is not UTF-8 ({error.reason}). Save the file as UTF-8."
            ) from error

    def row(self, number: int) -> Row:
        try:
            row = json.loads(self.line(number))
        except (ValueError, RecursionError) as error:
            raise AuditError(
                f"{self.name}, row {number}: is no JSON ({error}). Every line has to be one object."
            ) from error
        if not isinstance(row, dict):
            raise AuditError(
                f"{self.name}, row {number}: is a {type(row).__name__}, where an object with named columns is needed."
            )
        return row


class Table(Source):
    """A `datasets.Dataset`, or any sequence of rows."""

    def __init__(self, rows: Any, name: str) -> None:
        self.name, self._rows = name, rows

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> Row:
        return dict(self._rows[number])


def open_data(data: Any, split: str = "train") -> Source:
    """The rows of a file (JSONL, JSON, Parquet, CSV), a folder or hub name, a `datasets.Dataset`, or a list of rows.

    Raises:
        AuditError: if it is none of these, or empty.
    """
    source = data if isinstance(data, Source) else _open(data, split)
    if not len(source):
        raise AuditError(f"{source.name} has no rows.")
    return source


def _open(data: Any, split: str) -> Source:
    if not isinstance(data, (str, Path)):
        if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
            raise AuditError("The data are a stream, which cannot be read twice: load them without streaming.")
        return Table(data, "data")
    path = Path(data)
    if path.suffix == ".jsonl" and path.is_file():
        return Lines(path)
    try:
        rows = files.load(str(data), split)
    except Refused as error:
        raise AuditError(str(error)) from error
    return Table(rows, str(data))
