"""Marks of a chat template where text should be."""

from __future__ import annotations

import re

import numpy as np

from sstoken_plugins import hookimpl

from ..rows import Rows
from .base import Check, Register

KNOWN = re.compile(
    r"<\|[a-z_]{2,24}\|>|<\uff5c[^\uff5c]{2,24}\uff5c>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|^\s{0,3}#{2,3} (?:Instruction|Response|Input|Human|Assistant):"
    r"|^(?:User|Human|Assistant|USER|ASSISTANT|HUMAN): ",
    re.MULTILINE,
)


class RoleMarks(Check):
    """The text holds marks of a chat template."""

    name = "role_marks"
    formula = "number of role marks and of the tokenizer's special tokens in the prompt's and the answer's text"
    threshold = 1.0
    order = 70

    def score(self, rows: Rows) -> np.ndarray:
        own = [re.escape(mark) for mark in rows.marks if len(mark) > 2]
        special = re.compile("|".join(own)) if own else None
        values = np.zeros(len(rows))
        self._found: dict[int, str] = {}
        for sample in rows.each():
            # Of rows that came tokenised, the prompt holds the template's own marks.
            text = sample.answer if sample.tokens is not None else f"{sample.prompt}\n{sample.answer}"
            marks = KNOWN.findall(text)
            if special is not None:
                marks += special.findall(text)
            values[sample.number] = len(marks)
            if marks:
                self._found[sample.number] = ", ".join(dict.fromkeys(mark.strip() for mark in marks))
        return values

    def reason(self, number: int, value: float) -> str:
        return f"the text holds {self._found[number][:80]}"


@hookimpl
def register_checks(register: Register) -> None:
    register(RoleMarks)
