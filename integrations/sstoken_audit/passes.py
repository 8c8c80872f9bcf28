"""What the model is asked: answers with their prompts, without them, and with the prompts of other rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sstoken_plugins import Documents, token_forward
from sstoken_plugins.model.logits import entropy as entropy_of

from .errors import AuditError
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


class Scorer:
    """Runs a model over samples, longest first and batched by length, without gradient.

    Args:
        model: a causal language model, on its device.
        batch_tokens: the most tokens of a batch, padding included; a longer sample is a batch of its own.
    """

    def __init__(self, model: Any, batch_tokens: int) -> None:
        self._model, self._batch_tokens = model.eval(), batch_tokens
        text_config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        self.vocabulary = int(text_config.vocab_size)

    def score(self, samples: Sequence[Tokens], entropy: bool = True) -> list[TokenScores]:
        """One `TokenScores` for each sample, in their order."""
        found: dict[int, TokenScores] = {}
        for batch in self._batches([len(sample.ids) for sample in samples]):
            for i, scores in zip(batch, self._batch([samples[i] for i in batch], entropy), strict=True):
                found[i] = scores
        return [found[i] for i in range(len(samples))]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        longest = 0
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            if batch and (len(batch) + 1) * longest > self._batch_tokens:
                yield batch
                batch = []
            if not batch:
                longest = lengths[i]
            batch.append(i)
        if batch:
            yield batch

    @torch.no_grad()
    def _batch(self, samples: Sequence[Tokens], entropy: bool) -> Iterator[TokenScores]:
        width = max(2, *(len(sample.ids) for sample in samples))
        ids = torch.zeros((len(samples), width), dtype=torch.long)
        labels = torch.full_like(ids, -100)
        mask = torch.zeros_like(ids)
        for i, sample in enumerate(samples):
            n = len(sample.ids)
            ids[i, :n] = torch.from_numpy(sample.ids)
            labels[i, :n] = torch.where(torch.from_numpy(sample.response), ids[i, :n], -100)
            mask[i, :n] = 1
        if int(ids.max()) >= self.vocabulary:
            raise AuditError(
                f"The data hold token {int(ids.max())}, and the model knows {self.vocabulary}: they were tokenised "
                "for another model, or for one whose vocabulary was enlarged."
            )
        device = self._model.device
        inputs = {name: value.to(device) for name, value in
                  (("input_ids", ids), ("attention_mask", mask), ("labels", labels))}  # fmt: skip
        statistics = {"entropy": entropy_of} if entropy else {}
        forward = token_forward(self._model, inputs, Documents.from_batch(inputs), statistics=statistics)
        log_probs = forward.log_probs.float().cpu().numpy()
        entropies = forward.values["entropy"].float().cpu().numpy() if entropy else log_probs
        for i, sample in enumerate(samples):
            n = len(sample.ids)
            yield TokenScores(log_probs[i, :n][sample.response], entropies[i, :n][sample.response])
