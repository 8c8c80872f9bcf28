"""Answers that answer nothing."""

from __future__ import annotations

import re

import numpy as np

from sstoken_plugins import hookimpl

from ..rows import Rows
from .base import Check, Register

PATTERN = re.compile(
    r"\bas an? (?:ai|artificial intelligence|large language model|language model)\b"
    r"|\bi(?:'|\u2019)?m (?:just )?an? (?:ai|language model)\b"
    r"|\bi(?:'|\u2019)?m (?:very )?sorry,? but (?:i|as)\b"
    r"|\bi (?:can ?not|can(?:'|\u2019)t|am unable to|(?:'|\u2019)m unable to|will not|won(?:'|\u2019)t) "
    r"(?:assist|help|comply|fulfill?|provide|answer|do that|respond|continue)\b"
    r"|\bi apologi[sz]e,? but (?:i|as)\b",
    re.IGNORECASE,
)
WITHIN = 200


class Refusal(Check):
    """The answer refuses, or speaks of being a model."""

    name = "refusal"
    formula = f"1 if the first {WITHIN} characters hold a phrase of refusal (English), else 0"
    threshold = 0.5
    order = 21

    def score(self, rows: Rows) -> np.ndarray:
        found = [PATTERN.search(sample.answer[:WITHIN]) for sample in rows.each()]
        self._phrases = {number: match.group() for number, match in enumerate(found) if match}
        return np.array([float(match is not None) for match in found])

    def reason(self, number: int, value: float) -> str:
        return f"the answer says {self._phrases[number]!r}"


@hookimpl
def register_checks(register: Register) -> None:
    register(Refusal)
