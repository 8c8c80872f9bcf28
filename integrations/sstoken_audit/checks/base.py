"""What a check is."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeAlias

import numpy as np

from ..rows import Rows

_WORD = re.compile(r"\w+")


class Check(ABC):
    """Gives every row a number that is the higher, the more suspicious the row is. The docstring's first line says of
    what, for people.

    Attributes:
        name: for the command line and the tables.
        formula: of the number.
        threshold: rows of this number and more are flagged.
        needs_model: whether `rows` must hold what a model says.
        is_probability: whether the number is the probability that something is wrong.
        order: where it stands in lists.
        columns: further (n,) numbers for the tables, by name; set by `score`.
        note: on the data as a whole, in a sentence; set by `score`.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    threshold: float
    needs_model: ClassVar[bool] = False
    is_probability: ClassVar[bool] = False
    order: ClassVar[int] = 100

    def __init__(self, threshold: float | None = None) -> None:
        if threshold is not None:
            self.threshold = threshold
        self.columns: dict[str, np.ndarray] = {}
        self.note = ""

    @abstractmethod
    def score(self, rows: Rows) -> np.ndarray:
        """(n,) numbers, float; nan where the check does not apply to the row."""

    def flag(self, values: np.ndarray) -> np.ndarray:
        """(n,) bool."""
        return np.nan_to_num(values, nan=-math.inf) >= self.threshold

    @abstractmethod
    def reason(self, number: int, value: float) -> str:
        """Why row `number`, of this value, was flagged: a clause in words."""

    @classmethod
    def title(cls) -> str:
        return (cls.__doc__ or cls.name).strip().splitlines()[0].rstrip(".")


def words(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return _WORD.findall(text.lower())


def robust_z(values: np.ndarray) -> np.ndarray:
    """`(x - median) / (1.4826 MAD)`; nan stays nan. The spread is at least 5 % of the median's size, so that equal
    rows make no outliers."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.full(len(values), np.nan)
    centre = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - centre))
    return (values - centre) / max(spread, 0.05 * abs(centre), 1e-6)


Register: TypeAlias = Callable[[type[Check]], None]
"""What the hook `register_checks` is given: called with each class of a check."""
