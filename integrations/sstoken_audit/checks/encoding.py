"""Characters that a program left behind."""

from __future__ import annotations

import re

import numpy as np

from sstoken_plugins import hookimpl

from ..rows import Rows
from .base import Check, Register

SIGNS = {
    "characters that could not be decoded (\N{REPLACEMENT CHARACTER})": re.compile("\N{REPLACEMENT CHARACTER}"),
    "control characters": re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"),
    "UTF-8 that was read as Latin-1": re.compile(
        "\u00c3[\u0080-\u00bf\u0192\u0178\u201a-\u203a]|\u00e2\u20ac|\u00c2[\u00a0-\u00bf]"
    ),
    "base64 or hexadecimal": re.compile(r"(?=[A-Za-z0-9+/]*\d)(?=[A-Za-z0-9+/]*[A-Za-z])[A-Za-z0-9+/]{40,}={0,2}"),
    "HTML entities or tags": re.compile(r"&(?:nbsp|amp|quot|lt|gt|#\d{2,5});|</?(?:div|span|p|br|td|tr|li)\b[^>]*>"),
}


class Encoding(Check):
    """The text holds debris of an encoding or of markup."""

    name = "encoding"
    formula = "matches of undecodable or control characters, mojibake, base64, HTML, per 100 characters"
    threshold = 0.05
    order = 11

    def score(self, rows: Rows) -> np.ndarray:
        values = []
        self._found: dict[int, str] = {}
        for sample in rows.each():
            counts = {name: len(sign.findall(sample.answer)) for name, sign in SIGNS.items()}
            values.append(100 * sum(counts.values()) / max(1, len(sample.answer)))
            if values[-1]:
                self._found[sample.number] = ", ".join(name for name, count in counts.items() if count)
        return np.array(values)

    def reason(self, number: int, value: float) -> str:
        return f"the answer holds {self._found[number]}"


@hookimpl
def register_checks(register: Register) -> None:
    register(Encoding)
