"""A report: every token of a few samples, with its scores and whether it trains."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sstoken_plugins.errors import printable

from .checks import completed, is_current, wrong_with

_UNREADABLE = (pa.ArrowException, ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError)
ABOUT, CHECKSUM = b"sstoken_report", b"sstoken_report_sha256"


@dataclass(frozen=True)
class Report:
    """One row for each token, in the order of the text, sample after sample.

    Attributes:
        columns: arrays of one length:

            sample            int32, counted from 0
            row               int32, row of the training data; -1 if unknown
            position          int32, place in the sample, from 0
            token_id          int32
            text              str; a character of several tokens stands with the last of them
            response          bool; the rest is prompt, and has no label
            score             float32, what the tokens of a sample are ranked by; all NaN if nothing ranks them
            eligible          bool, whether the token may train at all
            rank              int32, 1 is the best of its sample; 0 if nothing ranks it, and on the prompt
            weight            float32, the factor of the token's loss; 0 drops it
            data_weight       float32, what the data multiply it by; only where they have weights
            ...               float32, what was measured, such as "log_prob" in nats

            All float32 are NaN on the prompt.
        about: JSON values: `step`, `config` (the options of the selection) and its `summary`, `columns` (of what was
            measured: label, explanation, ...; see `sstoken_plugins.Column`), `controls` (the options that a page can
            move, see `controls`), `model`, `notes` and `version`.
    """

    columns: dict[str, np.ndarray]
    about: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.about["step"])

    @property
    def n_samples(self) -> int:
        sample = self.columns["sample"]
        return int(sample[-1]) + 1 if len(sample) else 0

    @property
    def response(self) -> np.ndarray:
        response: np.ndarray = self.columns["response"]
        return response

    @property
    def kept(self) -> np.ndarray:
        """bool: response tokens with a weight."""
        kept: np.ndarray = self.response & (self.columns["weight"] != 0)
        return kept

    @property
    def dropped(self) -> np.ndarray:
        """bool: response tokens without."""
        dropped: np.ndarray = self.response & (self.columns["weight"] == 0)
        return dropped

    def knows(self, name: str) -> bool:
        """Whether the column is there, with numbers in it."""
        return name in self.columns and bool((~np.isnan(self.columns[name][self.response])).any())

    def samples(self) -> Iterator[dict[str, np.ndarray]]:
        """The columns of each sample."""
        cuts = np.flatnonzero(np.diff(self.columns["sample"])) + 1
        parts = {name: np.split(values, cuts) for name, values in self.columns.items()}
        for number in range(self.n_samples):
            yield {name: values[number] for name, values in parts.items()}

    def write_parquet(self, where: Path | BinaryIO) -> None:
        arrays = {name: pa.array(values, from_pandas=True) for name, values in self.columns.items()}
        arrays["text"] = arrays["text"].dictionary_encode()
        about = json.dumps(self.about).encode()
        metadata = {ABOUT: about, CHECKSUM: checksum(self.columns, about)}
        pq.write_table(pa.table(arrays).replace_schema_metadata(metadata), where, compression="zstd")

    @classmethod
    def read_parquet(cls, path: Path) -> Report:
        """Raises:
        ValueError: if the file is damaged, or is no report.
        """
        try:
            table = pq.read_table(path)
            metadata = table.schema.metadata or {}
            written = metadata.get(ABOUT, b"null")
            about = json.loads(written)
            columns = {name: _typed(name, table[name].to_numpy()) for name in table.column_names}
        except _UNREADABLE as error:
            raise _damaged(path, type(error).__name__) from error
        wrong = wrong_with(columns, about)
        if wrong is None and is_current(about) and metadata.get(CHECKSUM) != checksum(columns, written):
            wrong = "its checksum does not fit its content"
        if wrong is not None:
            raise _damaged(path, wrong)
        return cls(*completed(columns, about))

    def write_json(self, stream: BinaryIO) -> None:
        """`{"about": ..., "samples": [{"row": 7, "text": [...], "kept": [...], "score": [...], ...}, ...]}`"""
        samples = []
        for columns in self.samples():
            kept = columns["response"] & (columns["weight"] != 0)
            values = {name: _json_values(values) for name, values in columns.items() if name not in ("sample", "row")}
            samples.append({"row": int(columns["row"][0]), **values, "kept": kept.tolist()})
        text = json.dumps({"about": self.about, "samples": samples}, ensure_ascii=False, allow_nan=False)
        # A lone surrogate is valid in JSON as an escape, and in no UTF-8 file.
        stream.write(text.encode("utf-8", errors="backslashreplace"))


def checksum(columns: Mapping[str, np.ndarray], about: bytes) -> bytes:
    """SHA-256 of everything that a report says."""
    digest = hashlib.sha256(about)
    for name, values in sorted(columns.items()):
        digest.update(f"\n{name} {values.dtype} {len(values)}\n".encode())
        if values.dtype == np.object_:
            digest.update(json.dumps(values.tolist()).encode())
        elif values.dtype == np.float32:
            digest.update(np.where(np.isnan(values), np.float32("nan"), values).astype("<f4").tobytes())
        else:
            digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest().encode()


_TYPES: dict[str, Any] = {"response": np.bool_, "eligible": np.bool_, "text": np.object_}
_TYPES |= dict.fromkeys(("sample", "row", "position", "token_id", "rank"), np.int32)


def _typed(name: str, values: np.ndarray) -> np.ndarray:
    wanted: Any = _TYPES.get(name, np.float32)
    if wanted != np.float32 and values.dtype != wanted:
        raise ValueError(f"column {name} has type {values.dtype}")
    return values.astype(wanted)


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(printable(f"{path} is damaged, or no report of sstoken ({why})."))


def _json_values(values: np.ndarray) -> list[Any]:
    if values.dtype != np.float32:
        plain: list[Any] = values.tolist()
        return plain
    # The shortest digits that give the same float32, in place of the 17 of a float64. JSON has no infinity.
    return [float(str(value)) if np.isfinite(value) else None for value in values]
