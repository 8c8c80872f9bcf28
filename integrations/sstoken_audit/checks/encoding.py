"""Characters that a program left behind."""

from __future__ import annotations

import base64
import binascii
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
    "HTML entities or tags": re.compile(r"&(?:nbsp|amp|quot|lt|gt|#\d{2,5});|</?(?:div|span|p|br|td|tr|li)\b[^>]*>"),
}

CODED = "base64 or hexadecimal"
ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
RUN = re.compile(r"[A-Za-z0-9+/_-]{6,}={1,2}|[A-Za-z0-9+/_-]{16,}")
BINARY = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d.*\d.*\d)[A-Za-z0-9+/]{40,}={0,2}|(?=.*[a-f])[0-9a-f]{40,}")
"""So long a run is code, whatever it decodes to; a shorter one only if it decodes to text."""


class Encoding(Check):
    """The text holds debris of an encoding or of markup."""

    name = "encoding"
    formula = "matches of undecodable or control characters, mojibake, base64, hexadecimal, HTML, per 100 characters"
    threshold = 0.05
    order = 11

    def score(self, rows: Rows) -> np.ndarray:
        values = []
        self._found: dict[int, str] = {}
        for sample in rows.each():
            counts = {name: len(sign.findall(sample.answer)) for name, sign in SIGNS.items()}
            counts[CODED] = sum(is_coded(run) for run in RUN.findall(ADDRESS.sub(" ", sample.answer)))
            values.append(100 * sum(counts.values()) / max(1, len(sample.answer)))
            if values[-1]:
                self._found[sample.number] = ", ".join(name for name, count in counts.items() if count)
        return np.array(values)

    def reason(self, number: int, value: float) -> str:
        return f"the answer holds {self._found[number]}"


def is_coded(run: str) -> bool:
    """Whether a run of letters and digits is base64 (also its form for URLs) or hexadecimal.

    A word, a name in a program or a number decodes to bytes as well, but hardly ever to printable text: of random
    runs of 16 characters one in 100,000 does.
    """
    if not any(map(str.isalpha, run)):
        return False
    return bool(BINARY.fullmatch(run)) or any(decoded and _is_text(decoded) for decoded in (_base64(run), _hex(run)))


def _base64(run: str) -> bytes | None:
    missing = 0 if run.endswith("=") else -len(run) % 4
    try:
        return base64.b64decode(run + "=" * missing, altchars=b"-_" if re.search("[_-]", run) else None)
    except binascii.Error:
        return None


def _hex(run: str) -> bytes | None:
    try:
        return bytes.fromhex(run)
    except ValueError:
        return None


def _is_text(decoded: bytes) -> bool:
    """Short ones only in ASCII: a few bytes are UTF-8 by chance too often."""
    try:
        text = decoded.decode("ascii" if len(decoded) < 12 else "utf-8")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char.isspace() for char in text)


@hookimpl
def register_checks(register: Register) -> None:
    register(Encoding)
