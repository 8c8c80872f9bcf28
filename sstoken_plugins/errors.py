"""Refusing what cannot work: all of it at once, so that users need not fix one thing to learn of the next."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

Naming = Callable[[str], str]
"""How a user writes an option: "rho" may be `rho`, `sstoken_rho` or `--sstoken_rho`."""


def as_is(option: str) -> str:
    """The core's own names."""
    return option


def printable(text: str) -> str:
    """The text with what a terminal would take for commands written as in source code: names in data may hold it."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


class Problem:
    """One thing that stops a run, and how to fix it.

        Problem("{rho} is {value!r}: set it in (0, 1], for example 0.6.", value=60)

    A field of the template that is given a value shows it. Every other field is the name of an option, which each
    framework shows as its users write it.
    """

    def __init__(self, template: str, /, **values: Any) -> None:
        self.template, self.values = template, values

    @classmethod
    def verbatim(cls, text: str) -> Problem:
        """A text that names no option, such as another library's error."""
        return cls("{text}", text=text)

    def text(self, naming: Naming = as_is) -> str:
        """The sentence, with options named by `naming` and set in backticks."""
        return printable(_Template(self.values, naming).format(self.template))

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"Problem({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class _Template(string.Formatter):
    def __init__(self, values: dict[str, Any], naming: Naming) -> None:
        self._values, self._naming = values, naming

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Any) -> Any:
        return self._values[key] if key in self._values else f"`{self._naming(str(key))}`"


class Refused(ValueError):
    """What stops a run.

    Attributes:
        problems: each names the option, its value and how to fix it.
    """

    def __init__(self, *problems: Problem | str, naming: Naming = as_is) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem.verbatim(p) for p in problems)
        self._naming = naming
        super().__init__(*self.problems)

    def named(self, naming: Naming) -> Refused:
        """The same, with options as the users of a framework write them."""
        return Refused(*self.problems, naming=naming)

    @property
    def texts(self) -> tuple[str, ...]:
        """The problems as sentences."""
        return tuple(problem.text(self._naming) for problem in self.problems)

    def __str__(self) -> str:
        return "\n".join(self.texts)


@contextlib.contextmanager
def named(naming: Naming) -> Iterator[None]:
    """Refusals inside name options as the users of a framework write them. Other errors pass as they are."""
    try:
        yield
    except Refused as error:
        raise error.named(naming) from error


def refused(template: str, /, **values: Any) -> Refused:
    """A `Refused` with one `Problem`."""
    return Refused(Problem(template, **values))


def refuse(problems: Iterable[Problem | str]) -> None:
    """Raises:
    Refused: if there are any.
    """
    if found := tuple(problems):
        raise Refused(*found)


def problems_of(error: Exception) -> tuple[Problem, ...]:
    """What an error says, problem by problem."""
    if isinstance(error, Refused):
        return error.problems
    return (Problem.verbatim(str(error).strip() or type(error).__name__),)
