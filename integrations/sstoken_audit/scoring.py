"""Scores all rows, chunk by chunk, and continues where an earlier run stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .formats import Renderer
from .history import HistoryStore
from .passes import TokenScores, with_prompt_of, without_prompt
from .rows import CHUNK, Rows, RowScores
from .samples import Tokens
from .scorer import Scorer
from .store import Store

MOST_EXCHANGED = 2000
"""How many rows are also scored with the prompt of another: enough to know how that looks."""

Progress = Callable[[int, int], None]
"""Called with the number of rows done now and whether they were read (1) or scored (0)."""


class Scoring:
    """Scores rows into a store.

    Args:
        rows: whose texts are scored.
        seed: of the exchange of prompts.
        exchanged: how many rows are scored with the prompt of another, too.
        history: where scores of whole rows are left for the training.
        reads_history: whether what it knows is not scored again; then these rows have no entropy.
    """

    def __init__(
        self, rows: Rows, renderer: Renderer, scorer: Scorer, store: Store, seed: int, exchanged: int = MOST_EXCHANGED,
        history: HistoryStore | None = None, reads_history: bool = False,
    ) -> None:  # fmt: skip
        self._rows, self._renderer, self._scorer, self._store = rows, renderer, scorer, store
        self._history, self._reads_history = history, reads_history and history is not None
        n = len(rows)
        # Who gets whose prompt: a ring through all rows in random order, so that nobody gets their own.
        ring = np.random.default_rng(seed).permutation(n)
        pairs = zip(ring[:exchanged].tolist(), np.roll(ring, -1)[:exchanged].tolist(), strict=True)
        self._partners = dict(pairs)
        self._ends = frozenset(renderer.tokenizer.all_special_ids)

    def run(self, progress: Progress, part: tuple[int, int] = (0, 1)) -> None:
        """Scores what the store lacks; of several processes that share it, `part` is (number, how many)."""
        number, count = part
        for chunk in range(number, -(-len(self._rows) // CHUNK), count):
            tokens = [self._renderer.tokens(sample) for sample in self._rows.samples(chunk)]
            exchanged = [self._exchanged(chunk * CHUNK + i, own) for i, own in enumerate(tokens)]
            keys = [_key(own, other) for own, other in zip(tokens, exchanged, strict=True)]
            scores = self._store.load(chunk, keys)
            known = scores is not None
            if scores is None:
                scores = self._score(tokens, exchanged)
                self._store.save(chunk, keys, scores)
            self._leave(tokens, scores)
            progress(len(tokens), int(known))
        if self._history is not None:
            self._history.flush()

    def scores(self, chunk: int) -> list[RowScores]:
        found = self._store.load(chunk)
        if found is None:
            raise RuntimeError(f"The scores of chunk {chunk} have vanished from the cache: run the audit again.")
        return found

    def _exchanged(self, number: int, tokens: Tokens) -> Tokens | None:
        partner = self._partners.get(number)
        if partner is None or partner == number:
            return None
        other = self._renderer.tokens(self._rows.sample(partner))
        # The same prompt would be no exchange.
        if np.array_equal(other.ids[~other.response], tokens.ids[~tokens.response]):
            return None
        return with_prompt_of(tokens, other, self._renderer.max_length)

    def _leave(self, tokens: Sequence[Tokens], scores: Sequence[RowScores]) -> None:
        """What an earlier run has scored counts too: its history may have been lost."""
        if self._history is not None:
            answered = [(one, row) for one, row in zip(tokens, scores, strict=True) if one.response.any()]
            self._history.measure_noise(self._scorer, answered)
            self._history.add([one for one, _ in answered], [row.log_probs for _, row in answered])

    def _own(self, tokens: Sequence[Tokens]) -> list[TokenScores | None]:
        """Of whole rows; from the history, where it is to be read and knows them."""
        if self._history is None or not self._reads_history:
            return self._some(tokens, entropy=True)
        stored = self._history.known(tokens)
        fresh = self._some([one if known is None else None for one, known in zip(tokens, stored, strict=True)], True)
        nothing = np.zeros(0, np.float32)
        return [
            new if known is None else TokenScores(known, nothing) for new, known in zip(fresh, stored, strict=True)
        ]

    def _score(self, tokens: Sequence[Tokens], exchanged: Sequence[Tokens | None]) -> list[RowScores]:
        own = self._own(tokens)
        unprompted = self._some([without_prompt(one) for one in tokens])
        with_others = self._some(exchanged)
        rows = []
        for one, scores, alone, other in zip(tokens, own, unprompted, with_others, strict=True):
            assert scores is not None
            assert alone is not None
            marks = np.flatnonzero(np.isin(one.ids[one.response], list(self._ends)))
            rows.append(
                RowScores(
                    log_probs=scores.log_probs,
                    entropy=scores.entropy,
                    unprompted=alone.log_probs,
                    exchanged=None if other is None else other.log_probs,
                    end=float(scores.log_probs[marks[-1]]) if len(marks) and not one.cut else np.nan,
                    n_tokens=len(one.ids) + one.cut,
                    n_cut=one.cut,
                )
            )
        return rows

    def _some(self, tokens: Sequence[Tokens | None], entropy: bool = False) -> list[TokenScores | None]:
        """Scores those that have something to score; the model is not asked of rows without an answer."""
        wanted = [(i, one) for i, one in enumerate(tokens) if one is not None and one.response.any()]
        empty = TokenScores(np.zeros(0, np.float32), np.zeros(0, np.float32))
        found: list[TokenScores | None] = [None if one is None else empty for one in tokens]
        for (i, _), scores in zip(wanted, self._scorer.score([one for _, one in wanted], entropy), strict=True):
            found[i] = scores
        return found


def _key(own: Tokens, exchanged: Tokens | None) -> bytes:
    made = hashlib.blake2b(digest_size=16)
    for tokens in (own, exchanged):
        if tokens is not None:
            made.update(
                np.array([len(tokens.ids), tokens.cut]).tobytes() + tokens.ids.tobytes() + tokens.response.tobytes()
            )
    return made.digest()


def settings(
    model: Any, tokenizer: Any, name: str, max_length: int | None, seed: int, **others: Any
) -> dict[str, Any]:
    """Everything but the rows that changes a score, `others` as they are. The model's weights are told by a sample of
    their numbers."""
    weights = hashlib.sha256()
    for parameter_name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        some = flat[:: max(1, len(flat) // 64)][:64].float().cpu().numpy()
        weights.update(parameter_name.encode() + str(parameter.dtype).encode() + some.tobytes())
    config = model.config.to_json_string(use_diff=False) if hasattr(model.config, "to_json_string") else ""
    text = f"{getattr(tokenizer, 'chat_template', '')}{sorted(tokenizer.get_vocab().items())}"
    return {
        "version": 2,
        "model": name,
        "weights": weights.hexdigest(),
        "config": hashlib.sha256(config.encode()).hexdigest(),
        "tokenizer": hashlib.sha256(text.encode()).hexdigest(),
        "max_length": max_length,
        "seed": seed,
        **others,
    }
