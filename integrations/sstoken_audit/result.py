"""What an audit found."""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .checks.base import Check
from .rows import Rows

EXCERPT = 240


@dataclass(frozen=True)
class Finding:
    """What one check says: `values` (n,) float, higher is more suspicious, and `flagged` (n,) bool."""

    check: Check
    values: np.ndarray
    flagged: np.ndarray

    @property
    def suspicion(self) -> np.ndarray:
        """(n,) between 0 and 1, 1/2 and more exactly where flagged: `v / (v + threshold)`, or of a probability the
        value itself, held on its side of 1/2."""
        values = np.nan_to_num(np.clip(self.values, 0, None))
        ratio = values if self.check.is_probability else values / (values + max(self.check.threshold, 1e-9))
        return np.where(self.flagged, np.maximum(ratio, 0.5), np.minimum(ratio, 0.499))


class AuditResult:
    """Scores, flags and reasons for every row.

    Attributes:
        rows: the data, as text.
        findings: one for each check that ran.
        about: data, model and settings.
    """

    def __init__(self, rows: Rows, findings: Sequence[Finding], about: dict[str, Any]) -> None:
        self.rows, self.findings, self.about = rows, list(findings), about

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def flagged(self) -> np.ndarray:
        """(n,) bool, the rows that any check flags."""
        return np.any([finding.flagged for finding in self.findings], axis=0)

    @property
    def suspicion(self) -> np.ndarray:
        """(n,) in [0, 1]: of flagged rows `1 - product of (1 - suspicion)` over the checks that flag them, so 1/2 and
        more; of others the highest that any check has, below 1/2."""
        each = np.array([finding.suspicion for finding in self.findings])
        flags = np.array([finding.flagged for finding in self.findings])
        together = 1 - np.prod(np.where(flags, 1 - each, 1), axis=0)
        return np.where(flags.any(0), together, each.max(0, initial=0))

    @property
    def suspects(self) -> np.ndarray:
        """Numbers of the flagged rows, the most suspicious first; from 0."""
        return self.order()[: int(self.flagged.sum())]

    def order(self) -> np.ndarray:
        """All row numbers, the most suspicious first."""
        return np.lexsort((np.arange(len(self)), -self.suspicion, ~self.flagged))

    @property
    def weights(self) -> np.ndarray:
        """(n,) in [0, 1], to train with: 1 for rows without a flag, else `1 - suspicion`."""
        return np.where(self.flagged, 1 - self.suspicion, 1.0)

    def reasons(self, number: int) -> list[str]:
        """Why a row was flagged, in words, the strongest first."""
        found = [(-suspicion[number], f) for f, suspicion in self._suspicions if f.flagged[number]]
        return [f.check.reason(number, float(f.values[number])) for _, f in sorted(found, key=lambda pair: pair[0])]

    @functools.cached_property
    def _suspicions(self) -> list[tuple[Finding, np.ndarray]]:
        return [(finding, finding.suspicion) for finding in self.findings]

    def row(self, number: int) -> dict[str, Any]:
        """One row as tables hold it."""
        return self._table([number])[0]

    def columns(self) -> dict[str, np.ndarray]:
        """All numbers by name, (n,) each: the value of each check, `flag_...`, and what checks know beside."""
        found: dict[str, np.ndarray] = {}
        for finding in self.findings:
            found[finding.check.name] = finding.values
            found[f"flag_{finding.check.name}"] = finding.flagged
            found |= finding.check.columns
        return found

    def _table(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {
                "row": int(number),
                **{name: _plain(values[number]) for name, values in self._numbers.items()},
                "reasons": self.reasons(number),
            }
            for number in numbers
        ]

    @functools.cached_property
    def _numbers(self) -> dict[str, np.ndarray]:
        return {"suspicion": self.suspicion, "flagged": self.flagged, "weight": self.weights, **self.columns()}

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, a row for each row of the data, in their order."""
        import pandas as pd

        return pd.DataFrame(self._table(range(len(self))))

    def texts(self, number: int, length: int | None = EXCERPT) -> tuple[str, str]:
        """Prompt and answer of a row, cut in the middle to `length` characters."""
        sample = self.rows.sample(int(number))
        return _cut(sample.prompt, length), _cut(sample.answer, length)

    def summary(self) -> str:
        """One sentence."""
        n = int(self.flagged.sum())
        return f"{n} of {len(self)} rows look suspicious ({n / len(self):.1%})."

    def __repr__(self) -> str:
        counts = ", ".join(f"{f.check.name} {f.flagged.sum()}" for f in self.findings if f.flagged.any())
        return f"<AuditResult: {self.summary()} {counts}>".replace(" >", ">")

    def _repr_html_(self) -> str:
        head = "<tr><th>row</th><th>suspicion</th><th>why</th><th>prompt</th><th>answer</th></tr>"
        lines = [
            f"<tr><td>{number}</td><td>{self.suspicion[number]:.2f}</td>"
            + "".join(
                f"<td style='text-align:left'>{html.escape(text)}</td>"
                for text in ("; ".join(self.reasons(number)), *self.texts(number, 120))
            )
            + "</tr>"
            for number in self.suspects[:20]
        ]
        return f"<p>{html.escape(self.summary())}</p><table>{head}{''.join(lines)}</table>"


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _cut(text: str, length: int | None) -> str:
    if length is None or len(text) <= length:
        return text
    return f"{text[: length * 2 // 3].rstrip()} … {text[-length // 3 :].lstrip()}"
