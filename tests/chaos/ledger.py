"""Counts what came of every trial."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from sstoken_plugins.errors import Refused
from sstoken_plugins.guard import PluginError
from sstoken_plugins.store import StoreError

NAMED = (Refused, StoreError, PluginError, FloatingPointError)
"""Errors that this project raises itself: a sentence that says what is wrong, and what to do."""
COLUMNS = ("tried", "refused", "survived", "silent", "bare")


class Ledger:
    """One for a whole session."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}

    def note(self, kind: str, outcome: str) -> None:
        self.counts.setdefault(kind, Counter()).update((outcome, "tried"))

    def rows(self) -> list[tuple[str, ...]]:
        """A line for each kind of trial, and their sum."""
        total: Counter[str] = sum(self.counts.values(), Counter())
        lines = [*sorted(self.counts.items()), ("all", total)]
        return [("", *COLUMNS), *((kind, *(str(count[each]) for each in COLUMNS)) for kind, count in lines)]

    def trial(
        self,
        kind: str,
        case: Any,
        attempt: Callable[[], Any],
        same: Callable[[Any], bool],
        names: str | tuple[str, ...] = (),
        also: tuple[type[Exception], ...] = (),
    ) -> str:
        """Makes an attempt, and judges it.

        Args:
            case: what was tried, for the message.
            same: whether the attempt's result is what it would have been without the damage.
            names: what a refusal has to name.
            also: further errors that count as refusals.

        Returns:
            "refused" or "survived".

        Raises:
            AssertionError: for a wrong result without a word, and for errors that nobody meant.
        """
        try:
            result = attempt()
        except (*NAMED, *also) as error:
            text = str(error)
            assert "\x1b" not in text, f"{kind}, {case!r}: an escape sequence in {text!r}"
            for each in (names,) if isinstance(names, str) else names:
                if each not in text:
                    self.note(kind, "bare")
                    raise AssertionError(f"{kind}, {case!r}: {each!r} is not named by {text!r}") from error
            self.note(kind, "refused")
            return "refused"
        except Exception as error:
            self.note(kind, "bare")
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise AssertionError(
                f"{kind}, {case!r} ended in {type(error).__name__}: {error} ({where.filename}:{where.lineno})"
            ) from error
        if not same(result):
            self.note(kind, "silent")
            raise AssertionError(f"{kind}, {case!r} went on without a word, to another result: {str(result)[:200]}")
        self.note(kind, "survived")
        return "survived"


LEDGER = Ledger()
