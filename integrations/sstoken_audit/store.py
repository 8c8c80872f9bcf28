"""Scores on disk, a file for each chunk of rows: what an interrupted audit resumes from.

A chunk is a Parquet file whose name holds the SHA-256 of its bytes, written under another name first. A file that is
not what its name says was damaged: it is named, and its rows are scored again. Inside stands a key for each row, made
of its tokens, so that rows that have changed since are scored again too. Settings that change scores (model,
precision, length, seed) have a folder of their own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import AuditError
from .rows import RowScores

LISTS = ("log_probs", "entropy", "unprompted", "exchanged")
SCHEMA = pa.schema(
    [
        ("key", pa.binary()),
        *((name, pa.list_(pa.float32())) for name in LISTS),
        ("end", pa.float32()),
        ("n_tokens", pa.int32()),
        ("n_cut", pa.int32()),
    ]
)
ABOUT = "settings.json"


class Store:
    """The scores of one data set under one set of settings.

    Args:
        folder: made if missing; may hold the scores of other settings too.
        settings: everything that changes a score.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, sort_keys=True, indent=1)
        self._folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / ABOUT).write_text(text, encoding="utf-8")
        except OSError as error:
            raise AuditError(
                f"The cache {folder} cannot be written: {error.strerror}. Choose another with --cache."
            ) from error
        self._last: tuple[int, list[RowScores]] | None = None

    def load(self, chunk: int, keys: Sequence[bytes] | None = None) -> list[RowScores] | None:
        """The scores of a chunk; None if there are none, or they are damaged or not of the rows with these keys."""
        if keys is None and self._last is not None and self._last[0] == chunk:
            return self._last[1]
        for path in sorted(self._folder.glob(f"chunk-{chunk:07d}-*.parquet")):
            table = self._read(path)
            if table is None or (keys is not None and table.column("key").to_pylist() != list(keys)):
                continue
            scores = _scores(table)
            self._last = chunk, scores
            return scores
        return None

    def _read(self, path: Path) -> pa.Table | None:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:32] != path.stem.rpartition("-")[2]:
            warnings.warn(f"{path} is damaged: its rows are scored again.", stacklevel=4)
            path.unlink()
            return None
        return pq.read_table(io.BytesIO(content))

    def save(self, chunk: int, keys: Sequence[bytes], scores: Sequence[RowScores]) -> None:
        """Writes a chunk, and takes out what was there for it before."""
        columns: dict[str, list[Any]] = {
            name: [getattr(row, name) for row in scores] for name in SCHEMA.names if name != "key"
        }
        table = pa.table({"key": list(keys), **columns}, schema=SCHEMA)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        content = buffer.getvalue()
        path = self._folder / f"chunk-{chunk:07d}-{hashlib.sha256(content).hexdigest()[:32]}.parquet"
        handle, unfinished = tempfile.mkstemp(prefix=".writing-", dir=self._folder)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(unfinished, path)
        for other in self._folder.glob(f"chunk-{chunk:07d}-*.parquet"):
            if other != path:
                other.unlink()


def _scores(table: pa.Table) -> list[RowScores]:
    columns: dict[str, list[Any]] = {}
    for name in LISTS:
        array = table.column(name).combine_chunks()
        flat, offsets = array.values.to_numpy(), array.offsets.to_numpy()
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        columns[name] = [
            flat[begin:end] if known else None
            for begin, end, known in zip(offsets[:-1], offsets[1:], valid, strict=True)
        ]
    for name in ("end", "n_tokens", "n_cut"):
        columns[name] = table.column(name).to_pylist()
    columns["end"] = [np.nan if value is None else value for value in columns["end"]]
    return [RowScores(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
