"""Refusing what can't work: all of it at once, so that nobody mends one thing only to be told of the next."""

from __future__ import annotations

from collections.abc import Iterable


class Refused(ValueError):
    """What stands in the way of a run.

    Attributes:
        problems: each names the option, its value and the way out.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


def refuse(problems: Iterable[str]) -> None:
    """Raises:
    Refused: if there are any.
    """
    if found := tuple(problems):
        raise Refused(*found)


def problems_of(error: Exception) -> tuple[str, ...]:
    """What an error says, problem by problem."""
    return error.problems if isinstance(error, Refused) else (str(error),)
