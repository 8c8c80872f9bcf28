"""Answers in a language that the data otherwise do not speak."""

from __future__ import annotations

import functools
import importlib.util
from collections import Counter
from typing import Any

import numpy as np

from sstoken_plugins import hookimpl

from ..rows import Rows
from .base import Check, Register

FEWEST_LETTERS = 24
OWN = 0.2
"""A language belongs to the data if it has this share of the answers that the most frequent language has."""
NO_LANGUAGE = "zxx"
"""The code of ISO 639 for it."""


class Language(Check):
    """The answer is in a language that is rare in these data."""

    name = "language"
    formula = (
        f"1 - sum of P(language | answer) over the languages of the data, those at least {OWN:.0%} as frequent as the "
        f"most frequent one (py3langid); nan below {FEWEST_LETTERS} letters"
    )
    threshold = 0.95
    is_probability = True
    order = 50

    def score(self, rows: Rows) -> np.ndarray:
        if importlib.util.find_spec("py3langid") is None:
            self.note = "Skipped: it needs py3langid (pip install py3langid)."
            return np.full(len(rows), np.nan)
        identifier = _identifier()
        likely: list[list[tuple[str, float]]] = []
        for sample in rows.each():
            enough = sum(map(str.isalpha, sample.answer)) >= FEWEST_LETTERS
            # What is left out is below 1 % in sum, and would fill the memory.
            ranked = identifier.rank(sample.answer) if enough else []
            likely.append([(name, float(p)) for name, p in ranked[:4]])
        counts = Counter(ranked[0][0] for ranked in likely if ranked)
        own = {name for name, count in counts.items() if count >= OWN * max(counts.values())}
        self._likely = [ranked[0][0] if ranked else "" for ranked in likely]
        self.note = "Languages of the data: " + ", ".join(sorted(own)) + "." if own else ""
        return np.array([1 - sum(p for name, p in ranked if name in own) if ranked else np.nan for ranked in likely])

    def reason(self, number: int, value: float) -> str:
        if self._likely[number] == NO_LANGUAGE:
            return f"the answer is in no language (sure to {value:.0%})"
        return f"the answer is in another language than the rest ({self._likely[number]}, sure to {value:.0%})"


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@hookimpl
def register_checks(register: Register) -> None:
    register(Language)
