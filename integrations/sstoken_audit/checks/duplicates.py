"""Rows that say what another has said."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from sstoken_plugins import hookimpl

from ..rows import Rows
from .base import Check, Register, words

PERMUTATIONS, SHINGLE = 128, 5
FEWEST_WORDS = 4
SURE = 0.8


class _Duplicate(Check):
    field: ClassVar[Literal["prompt", "answer"]]
    formula = (
        f"1 if an earlier row has the same words, else the estimated Jaccard similarity of {SHINGLE}-character "
        f"shingles (MinHash, {PERMUTATIONS} permutations) with the most similar earlier row"
    )
    threshold = 0.85

    def score(self, rows: Rows) -> np.ndarray:
        from datasketch import MinHash, MinHashLSH

        index = MinHashLSH(threshold=SURE, num_perm=PERMUTATIONS)
        exact: dict[str, int] = {}
        values = np.zeros(len(rows))
        self._of: dict[int, int] = {}
        # Half a kilobyte a row, and as much for the index: the only check whose memory grows with the data.
        sketches = np.zeros((len(rows), PERMUTATIONS), np.uint32)
        for sample in rows.each():
            found = words(getattr(sample, self.field))
            if len(found) < FEWEST_WORDS:
                continue
            text = " ".join(found)
            if text in exact:
                values[sample.number], self._of[sample.number] = 1.0, exact[text]
                continue
            exact[text] = sample.number
            sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
            sketch.update_batch([text[i : i + SHINGLE].encode() for i in range(max(1, len(text) - SHINGLE + 1))])
            sketches[sample.number] = sketch.hashvalues
            if near := index.query(sketch):
                likeness = {number: float((sketches[number] == sketches[sample.number]).mean()) for number in near}
                number = max(likeness, key=likeness.__getitem__)
                values[sample.number], self._of[sample.number] = likeness[number], number
            index.insert(sample.number, sketch, check_duplication=False)
        return values

    def reason(self, number: int, value: float) -> str:
        same = "the same words as" if value == 1 else f"{value:.0%} like"
        return f"the {self.field} is {same} row {self._of[number]}"


class DuplicatePrompt(_Duplicate):
    """The prompt repeats that of an earlier row."""

    name, field, order = "duplicate_prompt", "prompt", 30


class DuplicateAnswer(_Duplicate):
    """The answer repeats that of an earlier row."""

    name, field, order = "duplicate_answer", "answer", 31


@hookimpl
def register_checks(register: Register) -> None:
    register(DuplicatePrompt)
    register(DuplicateAnswer)
