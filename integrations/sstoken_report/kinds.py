"""Kinds of tokens, told by their text: the page's own kinds (`web/overview.js`), on arrays."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np

from .table import Report

SYMBOLS = frozenset("_{}[]()<>=\\|&^~`$#@*/+%;")
LAST = "ends of answers"


def _has(text: str, category: str) -> bool:
    return any(unicodedata.category(character).startswith(category) for character in text)


KINDS: dict[str, Callable[[str], bool]] = {
    "white space": lambda text: text != "" and not text.strip(),
    "numbers": lambda text: _has(text, "N") and not _has(text, "L"),
    "words": lambda text: _has(text, "L") and not SYMBOLS & set(text),
    "code and symbols": lambda text: bool(SYMBOLS & set(text)),
    "punctuation": lambda text: text != "" and all(c.isspace() or _has(c, "P") for c in text),
    "other": lambda text: True,
}
"""The first that fits."""


def kinds_of(report: Report) -> np.ndarray:
    """(n_response,) str: the kind of every response token; the last one before a prompt or the end of a sample has a
    kind of its own, whatever its text is."""
    columns, response = report.columns, report.response
    sample = columns["sample"]
    ends = np.append((sample[1:] != sample[:-1]) | ~response[1:], True)[: len(sample)]
    texts = columns["text"][response].tolist()
    named = {text: next(name for name, fits in KINDS.items() if fits(text)) for text in set(texts)}
    found = np.array([named[text] for text in texts], dtype=object)
    found[ends[response]] = LAST
    return found
