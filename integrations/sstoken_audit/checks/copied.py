"""Prompts inside their answers."""

from __future__ import annotations

import numpy as np

from sstoken_plugins import hookimpl

from ..rows import Rows
from .base import Check, Register, words

LENGTH, FEWEST_WORDS = 4, 4


class Copied(Check):
    """The answer repeats its prompt."""

    name = "copied"
    formula = f"share of the prompt's {LENGTH}-word sequences that the answer holds; nan below {FEWEST_WORDS} words"
    threshold = 0.7
    order = 62

    def score(self, rows: Rows) -> np.ndarray:
        values = []
        for sample in rows.each():
            prompt, answer = _sequences(sample.prompt), _sequences(sample.answer)
            enough = len(words(sample.prompt)) >= FEWEST_WORDS
            values.append(len(prompt & answer) / len(prompt) if enough else np.nan)
        return np.array(values)

    def reason(self, number: int, value: float) -> str:
        return f"the answer repeats {value:.0%} of its prompt"


def _sequences(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + LENGTH]) for i in range(len(found) - LENGTH + 1)}


@hookimpl
def register_checks(register: Register) -> None:
    register(Copied)
