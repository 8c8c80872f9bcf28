"""What a method says of its own selection. A plugin's mistake here costs a part of the report, not the training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from sstoken_plugins import Controls, Selection, TokenSelector

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Asking:
    """Asks the method of a selector, at one step.

    Attributes:
        mistakes: sentences on what it failed to answer, for the report's notes.
    """

    def __init__(self, selector: TokenSelector, step: int) -> None:
        self._method, self._name = selector.method, selector.config.strategy
        self._progress = selector.progress(step)
        self._anchored = selector.plan.is_anchored  # then every response token trains, whatever the method says
        self.mistakes: list[str] = []

    def score(self, selection: Selection) -> Tensor:
        """(B, S) float32, NaN where nothing ranks the tokens."""
        unknown = torch.full_like(selection.weights, torch.nan)

        def ask() -> Tensor:
            score = self._method.score(selection.signals, selection.documents, self._progress)
            return unknown if score is None else _one_per_token(score, selection).float()

        return self._ask("score", ask, unknown)

    def eligible(self, selection: Selection) -> Tensor:
        """(B, S) bool."""
        response = selection.documents.response

        if self._anchored:
            return response

        def ask() -> Tensor:
            eligible = self._method.eligible(selection.signals, selection.documents, self._progress)
            return _one_per_token(eligible, selection).bool() & response

        return self._ask("eligible", ask, response)

    def controls(self) -> Controls | None:
        if self._anchored:
            return None

        def ask() -> Controls | None:
            return self._method.controls(self._progress)

        return self._ask("controls", ask, None)

    def notes(self) -> list[str]:
        return self._ask("notes", lambda: [str(note) for note in self._method.notes(self._progress)], [])

    def failed(self, what: str, reason: str) -> None:
        """Says once that the report lacks something, and why."""
        mistake = f"`{what}` of method {self._name!r} cannot be shown: {reason}"
        if mistake not in self.mistakes:
            self.mistakes.append(mistake)
            logger.warning("In reports, %s", mistake)

    def _ask(self, what: str, ask: Callable[[], T], otherwise: T) -> T:
        try:
            return ask()
        except Exception as error:
            self.failed(what, f"{type(error).__name__}: {error}")
            return otherwise


def _one_per_token(values: Any, selection: Selection) -> Tensor:
    expected = tuple(selection.weights.shape)
    if not isinstance(values, Tensor) or tuple(values.shape) != expected:
        got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else repr(values)
        raise TypeError(f"it returned {got}, where one number for each token was expected: shape {expected}.")
    return values
