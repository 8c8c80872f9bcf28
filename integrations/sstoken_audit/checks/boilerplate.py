"""What stands before or after many answers."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

import numpy as np

from sstoken_plugins import hookimpl

from ..rows import Rows
from .base import Check, Register, words

LENGTH = 6
FEWEST, SHARE, FORMAT = 3, 0.01, 0.5


class Boilerplate(Check):
    """The answer begins or ends like many others."""

    name = "boilerplate"
    formula = (
        f"number of answers with the same first or last {LENGTH} words, over max({FEWEST}, {SHARE:.0%} of the rows); "
        f"what more than {FORMAT:.0%} of the rows share is the data's format and does not count"
    )
    threshold = 1.0
    order = 20

    def score(self, rows: Rows) -> np.ndarray:
        counts: Counter[bytes] = Counter()
        for sample in rows.each():
            counts.update(_edges(sample.answer).values())
        values = np.zeros(len(rows))
        self._found: dict[int, tuple[str, int]] = {}
        for sample in rows.each():
            edges = {place: counts[key] for place, key in _edges(sample.answer).items()}
            edges = {place: count for place, count in edges.items() if count <= max(FEWEST, FORMAT * len(rows))}
            if not edges:
                continue
            place, count = max(edges.items(), key=lambda item: item[1])
            values[sample.number] = count / max(FEWEST, SHARE * len(rows)) if count > 1 else 0.0
            if values[sample.number] >= self.threshold:
                self._found[sample.number] = (place, count)
        return values

    def reason(self, number: int, value: float) -> str:
        place, count = self._found[number]
        return f"{count} answers {place} with the same {LENGTH} words"


def _edges(text: str) -> dict[str, bytes]:
    """Hashes of the first and the last words; none of an answer that is little more than they."""
    found = words(text)
    if len(found) < LENGTH + 2:
        return {}
    edges = {"begin": found[:LENGTH], "end": found[-LENGTH:]}
    return {
        place: blake2b(" ".join(part).encode() + place.encode(), digest_size=8).digest()
        for place, part in edges.items()
    }


@hookimpl
def register_checks(register: Register) -> None:
    register(Boilerplate)
