"""One row, understood: as text, and as tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Message = dict[str, Any]


@dataclass(frozen=True)
class Tokens:
    """A tokenised sample.

    Attributes:
        ids: (S,) int32.
        response: (S,) bool, the tokens that train. The first token never does: nothing predicts it.
        cut: how many tokens beyond `max_length` were cut off.
    """

    ids: np.ndarray
    response: np.ndarray
    cut: int = 0


@dataclass(frozen=True)
class Sample:
    """One row, understood.

    Attributes:
        number: of the row, from 0.
        prompt, answer: what is asked and what is learned, as text; of a conversation, its turns joined by line ends.
        messages: the conversation, or None for plain text.
        n_prompt: how many of the messages are the prompt; None if every assistant turn trains.
        tokens: of a row that came tokenised; its prompt then holds the marks of the chat template.
    """

    number: int
    prompt: str
    answer: str
    messages: tuple[Message, ...] | None = None
    n_prompt: int | None = None
    tokens: Tokens | None = None
