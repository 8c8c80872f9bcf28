"""A report: every token of a few samples, with its scores and its fate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ABOUT = b"sstoken_report"


@dataclass(frozen=True)
class Report:
    """One row for each token, in the order of the text, sample after sample.

    Attributes:
        columns: arrays of one length:

            sample            int32, counted from 0
            position          int32, place in the sample, from 0
            token_id          int32
            text              str; a character of several tokens stands with the last of them
            response          bool; the rest is prompt, and has no label
            log_prob          float32, nats, under the current model; this and the following are NaN on the prompt
            history_log_prob  float32, under the history; all NaN if the selection reads none
            rel               float32, log_prob - history_log_prob
            attention         float32, mass on the prompt; all NaN if the selection does not read it
            prompt_gain       float32, nats; all NaN if the selection does not read it
            entropy           float32, nats
            score             float32, what the tokens of a sample are ranked by; all NaN if nothing ranks them
            rank              int32, 1 is the best of its sample; 0 if nothing ranks them, and on the prompt
            weight            float32, the factor of the token's loss; 0 drops it
        about: JSON values: `step`, `config` (the options of the selection), `gamma` (at this step), `reselect` (how
            the page selects again, see `scoring`), `model`, `notes` and `version`.
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
        return self.columns["response"]

    @property
    def kept(self) -> np.ndarray:
        """bool: response tokens with a weight."""
        return self.response & (self.columns["weight"] != 0)

    @property
    def dropped(self) -> np.ndarray:
        """bool: response tokens without."""
        return self.response & (self.columns["weight"] == 0)

    def knows(self, name: str) -> bool:
        """Whether the selection read this column at all."""
        return name in self.columns and bool((~np.isnan(self.columns[name][self.response])).any())

    def samples(self) -> Iterator[dict[str, np.ndarray]]:
        """The columns of each sample."""
        cuts = np.flatnonzero(np.diff(self.columns["sample"])) + 1
        parts = {name: np.split(values, cuts) for name, values in self.columns.items()}
        for number in range(self.n_samples):
            yield {name: values[number] for name, values in parts.items()}

    def write_parquet(self, path: Path) -> None:
        arrays = {name: pa.array(values, from_pandas=True) for name, values in self.columns.items()}
        arrays["text"] = arrays["text"].dictionary_encode()
        table = pa.table(arrays).replace_schema_metadata({ABOUT: json.dumps(self.about)})
        pq.write_table(table, path, compression="zstd")

    @classmethod
    def read_parquet(cls, path: Path) -> Report:
        """Raises:
        ValueError: if the file is damaged, or is no report.
        """
        try:
            table = pq.read_table(path)
            about = json.loads((table.schema.metadata or {})[ABOUT])
            columns = {name: table[name].to_numpy() for name in table.column_names}
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is damaged, or no report of sstoken ({type(error).__name__}).") from error
        return cls({name: values.astype(_dtype(name)) for name, values in columns.items()}, about)

    def write_json(self, path: Path) -> None:
        """`{"about": ..., "samples": [{"text": [...], "kept": [...], "rel": [...], ...}, ...]}`"""
        samples = []
        for columns in self.samples():
            kept = columns["response"] & (columns["weight"] != 0)
            values = {name: _json_values(values) for name, values in columns.items() if name != "sample"}
            samples.append({**values, "kept": kept.tolist()})
        text = json.dumps({"about": self.about, "samples": samples}, ensure_ascii=False, allow_nan=False)
        # A lone surrogate is valid in JSON as an escape, and in no UTF-8 file.
        path.write_text(text, encoding="utf-8", errors="backslashreplace")


_TYPES = {"response": np.bool_, "text": np.object_}
_TYPES |= dict.fromkeys(("sample", "position", "token_id", "rank"), np.int32)


def _dtype(name: str) -> Any:
    return _TYPES.get(name, np.float32)


def _json_values(values: np.ndarray) -> list[Any]:
    if values.dtype != np.float32:
        return values.tolist()
    # The shortest digits that give the same float32, in place of the 17 of a float64.
    return [None if np.isnan(value) else float(str(value)) for value in values]
