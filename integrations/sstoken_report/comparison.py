"""Reports of the same tokens side by side: which tokens change their status?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sstoken_plugins.errors import refused

from .kinds import KINDS, LAST, kinds_of
from .table import Report

SAME = ("sample", "token_id", "response")


@dataclass(frozen=True)
class Totals:
    """Of one kind of token, or of all.

    Attributes:
        kind: its name.
        n: how many response tokens are of it.
        kept: how many of them each report keeps.
        weight: the sum of their weights in each report.
        gained, lost: how many each report keeps that the first drops, and drops that the first keeps.
    """

    kind: str
    n: int
    kept: tuple[int, ...]
    weight: tuple[float, ...]
    gained: tuple[int, ...]
    lost: tuple[int, ...]


class Comparison:
    """Two or more reports of the same tokens; the others are compared with the first.

    Args:
        reports: as `sstoken inspect` and `report_steps` write them.
        names: what people call them.

    Attributes:
        kept: (R, n) bool, which response tokens each report keeps.
        weights: (R, n) float32, the factors of their losses.

    Raises:
        Refused: if there is one report only, or they are of different tokens.
    """

    def __init__(self, reports: Sequence[Report], names: Sequence[str]) -> None:
        if len(reports) < 2:
            raise refused("There is one report only: name two or more.")
        if len(set(names)) != len(names):
            raise refused("Two of {names} have the same name: give each its own.", names=", ".join(names))
        for report, name in zip(reports[1:], names[1:], strict=True):
            if different := _difference(reports[0], report):
                raise refused(
                    "{name} cannot be compared with {first}: {different}. Make both from the same data, tokenizer "
                    "and number of samples.",
                    name=name,
                    first=names[0],
                    different=different,
                )
        self.reports, self.names = tuple(reports), tuple(names)
        response = reports[0].response
        self.kept = np.stack([report.kept[response] for report in reports])
        self.weights = np.stack([report.columns["weight"][response].astype(np.float32) for report in reports])

    @property
    def changed(self) -> np.ndarray:
        """(R, n) bool: whether a token's status is another than in the first report; the first row is False."""
        found: np.ndarray = self.kept != self.kept[0]
        return found

    @property
    def weighted(self) -> bool:
        """Whether there is any weight but 0 and 1."""
        return not bool(np.isin(self.weights, (0, 1)).all())

    def totals(self) -> list[Totals]:
        """Of all response tokens, then of each kind that occurs."""
        kinds = kinds_of(self.reports[0])
        found = [self._totals("all response tokens", np.ones(len(kinds), bool))]
        found += [self._totals(kind, chosen) for kind in (*KINDS, LAST) if (chosen := kinds == kind).any()]
        return found

    def _totals(self, kind: str, chosen: np.ndarray) -> Totals:
        first, kept, weights = self.kept[0, chosen], self.kept[:, chosen], self.weights[:, chosen]
        return Totals(
            kind=kind,
            n=int(chosen.sum()),
            kept=tuple(kept.sum(1).tolist()),
            weight=tuple(weights.sum(1, dtype=np.float64).tolist()),
            gained=tuple((kept & ~first).sum(1).tolist()),
            lost=tuple((~kept & first).sum(1).tolist()),
        )

    def movers(self, which: int, number: int) -> tuple[list[tuple[str, int, int]], list[tuple[str, int, int]]]:
        """The tokens that report `which` most often keeps where the first does not, and drops where the first keeps
        them: text, times, times seen."""
        texts = self.reports[0].columns["text"][self.reports[0].response]
        seen = Counter(texts.tolist())
        now, before = self.kept[which], self.kept[0]

        def most(moved: np.ndarray) -> list[tuple[str, int, int]]:
            return [(text, times, seen[text]) for text, times in Counter(texts[moved].tolist()).most_common(number)]

        return most(now & ~before), most(before & ~now)

    def write_parquet(self, where: Path | BinaryIO) -> None:
        """One row for each token; `kept:NAME` and `weight:NAME` of each report are null on the prompt."""
        first = self.reports[0]
        columns: dict[str, Any] = {
            name: first.columns[name] for name in ("sample", "row", "position", "token_id", "text", "response")
        }
        for i, name in enumerate(self.names):
            columns[f"kept:{name}"] = pa.array(_spread(self.kept[i], first.response), from_pandas=True)
            columns[f"weight:{name}"] = pa.array(_spread(self.weights[i], first.response), from_pandas=True)
        pq.write_table(pa.table(columns), where, compression="zstd")

    def write_json(self, stream: BinaryIO) -> None:
        """`{"names": [...], "totals": [{"kind": "words", "n": 7, "kept": [...], ...}, ...]}`"""
        content = {
            "names": self.names,
            "config": [report.about["config"] for report in self.reports],
            "totals": [vars(totals) for totals in self.totals()],
        }
        stream.write(json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", errors="backslashreplace"))


def _spread(values: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Values of the response tokens among all tokens, None elsewhere."""
    found = np.full(len(response), None, dtype=object)
    found[response] = values
    return found


def _difference(one: Report, other: Report) -> str | None:
    """In what two reports are not of the same tokens."""
    if one.n_samples != other.n_samples:
        return f"it holds {other.n_samples} samples, not {one.n_samples}"
    if all(np.array_equal(one.columns[name], other.columns[name]) for name in SAME):
        return None
    for number, (mine, theirs) in enumerate(zip(one.samples(), other.samples(), strict=True)):
        if not all(np.array_equal(mine[name], theirs[name]) for name in SAME):
            return f"sample {number + 1} has other tokens"
    return "its tokens are others"
