"""Answers that stop in the middle."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sstoken_plugins import hookimpl

from ..rows import Rows
from .base import Check, Register

UNUSUAL = 0.1


class Truncated(Check):
    """The answer seems to stop in the middle.

    An ending is `closed` (punctuation, a quote, a bracket), a `number` or `open` (anything else).
    """

    name = "truncated"
    formula = (
        "-log p(end mark) in nats, less the median of the data; nan where the kind of ending (closed, a number, open) "
        f"is a number or closed, unless less than {UNUSUAL:.0%} of the data end so"
    )
    threshold = 3.0
    needs_model = True
    order = 40

    def score(self, rows: Rows) -> np.ndarray:
        surprise, kinds = [], []
        for sample, scores in rows.each_scored():
            surprise.append(-scores.end if sample.answer.strip() else np.nan)  # `empty` has a word for that
            kinds.append(_ending(sample.answer))
        values = np.array(surprise)
        counts = Counter(kinds)
        usual = {kind for kind, count in counts.items() if count >= UNUSUAL * len(kinds) and kind != "open"}
        self._surprise = values.copy()
        if np.isfinite(values).any():
            # Where most answers end in the middle of something, that is how these data are.
            values -= np.nanmedian(values)
        values[[kind in usual for kind in kinds]] = np.nan
        return values

    def reason(self, number: int, value: float) -> str:
        likely = np.exp(-self._surprise[number])
        return f"it ends without a final mark, where the model gives an end a probability of {likely:.2g}"


def _ending(text: str) -> str:
    last = text.rstrip()[-1:]
    if last.isdigit():
        return "number"
    return "open" if not last or last.isalpha() or last in ",;:-=+*/(<" else "closed"


@hookimpl
def register_checks(register: Register) -> None:
    register(Truncated)
