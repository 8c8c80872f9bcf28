"""Answers that are no answers, and rows that do not fit."""

from __future__ import annotations

import numpy as np

from sstoken_plugins import hookimpl

from ..rows import Rows
from .base import Check, Register, words

RARE = 0.05
TIMES = 20


class Empty(Check):
    """The answer or the prompt is empty, or one word where the others are longer."""

    name = "empty"
    formula = (
        f"1 if the answer or the prompt has no character, or the answer at most one word and less than {RARE:.0%} do"
    )
    threshold = 0.1
    order = 60

    def score(self, rows: Rows) -> np.ndarray:
        self._reasons: dict[int, str] = {}
        short = []
        for sample in rows.each():
            for name, text in (("answer", sample.answer), ("prompt", sample.prompt)):
                if not text.strip():
                    self._reasons.setdefault(sample.number, f"the {name} is empty")
            if sample.number not in self._reasons and len(sample.answer.split()) <= 1 and len(sample.answer) < 20:
                short.append(sample.number)
        if len(short) < RARE * len(rows):
            self._reasons |= dict.fromkeys(short, "the answer is a single word, where nearly all others are longer")
        return np.array([float(number in self._reasons) for number in range(len(rows))])

    def reason(self, number: int, value: float) -> str:
        return self._reasons[number]


class OverLong(Check):
    """The row is too long: it would be cut, or is far longer than the others."""

    name = "over_long"
    formula = f"the larger of 1 + cut tokens / all tokens, if any are cut, and words / ({TIMES} x the median's)"
    threshold = 1.0
    order = 61

    def score(self, rows: Rows) -> np.ndarray:
        lengths, cut = np.zeros(len(rows)), np.zeros(len(rows))
        self._cut = np.zeros(len(rows))
        for chunk in rows.chunks():
            for i, sample in enumerate(chunk.samples):
                lengths[sample.number] = len(words(sample.answer))
                if chunk.scores is not None:
                    self._cut[sample.number] = chunk.scores[i].n_cut
                    cut[sample.number] = chunk.scores[i].n_cut / max(1, chunk.scores[i].n_tokens)
        self._lengths = lengths
        self._median = max(10.0, float(np.median(lengths)))
        return np.maximum(lengths / (TIMES * self._median), np.where(cut > 0, 1 + cut, 0))

    def reason(self, number: int, value: float) -> str:
        if self._cut[number]:
            return f"{self._cut[number]:.0f} of its tokens would be cut off"
        return f"the answer has {self._lengths[number]:.0f} words, the median is {self._median:.0f}"


@hookimpl
def register_checks(register: Register) -> None:
    register(Empty)
    register(OverLong)
