"""What the model is asked: answers with their prompts, without them, and with the prompts of other rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .samples import Tokens

HEADER = 4
"""How many prompt tokens stay in front of an answer without its prompt: where chat formats say that one begins."""


@dataclass(frozen=True)
class TokenScores:
    """Of one sample's response tokens, (n_response,) float32: `log p(token)` in nats, and the entropy before it."""

    log_probs: np.ndarray
    entropy: np.ndarray


def without_prompt(tokens: Tokens) -> Tokens:
    """The sample without its prompt, up to the last `HEADER` prompt tokens before each stretch of response."""
    near = np.zeros_like(tokens.response)
    for distance in range(1, min(HEADER, len(near) - 1) + 1):
        near[:-distance] |= tokens.response[distance:]
    stays = tokens.response | near
    return Tokens(tokens.ids[stays], tokens.response[stays])


def with_prompt_of(tokens: Tokens, other: Tokens, max_length: int | None = None) -> Tokens:
    """The answers of one sample behind the prompts of another: the first prompt for the first answer, and so on, and
    its last one for all that are left. Prompts are cut in front where `max_length` leaves no room."""
    prompts = [ids for ids, response in _stretches(other) if not response]
    if not prompts:
        return tokens
    room = len(tokens.ids) if max_length is None else max(max_length - int(tokens.response.sum()), HEADER)
    parts: list[tuple[np.ndarray, bool]] = []
    n_used = 0
    for ids, response in _stretches(tokens):
        if response:
            parts.append((ids, True))
        else:
            parts.append((prompts[min(n_used, len(prompts) - 1)][-room:], False))
            n_used += 1
    return Tokens(
        np.concatenate([ids for ids, _ in parts]),
        np.concatenate([np.full(len(ids), response) for ids, response in parts]),
    )


def _stretches(tokens: Tokens) -> Iterator[tuple[np.ndarray, bool]]:
    edges = [0, *(np.flatnonzero(np.diff(tokens.response)) + 1), len(tokens.ids)]
    for begin, end in itertools.pairwise(edges):
        if end > begin:
            yield tokens.ids[begin:end], bool(tokens.response[begin])
