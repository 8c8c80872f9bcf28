"""A scorer that remembers: most rows are the same under every flaw."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sstoken_audit.passes import TokenScores
from sstoken_audit.samples import Tokens
from sstoken_audit.scorer import Scorer


class MemoScorer(Scorer):
    """Asks the model only of what it was not asked before, this time or in an earlier run."""

    def __init__(self, model: Any, batch_tokens: int, path: Path) -> None:
        super().__init__(model, batch_tokens)
        self._path = path
        self._known: dict[str, np.ndarray] = {}
        if path.is_file():
            with np.load(path) as stored:
                self._known = dict(stored)

    def score(self, samples: Sequence[Tokens], entropy: bool = True) -> list[TokenScores]:
        keys = [_key(sample) for sample in samples]
        new = {key: i for i, key in enumerate(keys) if key not in self._known}
        for key, scores in zip(new, super().score([samples[i] for i in new.values()]), strict=True):
            self._known[key] = np.stack([scores.log_probs, scores.entropy])
        if new:
            self._save()
        return [TokenScores(*self._known[key]) for key in keys]

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_name(f"unfinished-{self._path.name}")
        np.savez(unfinished, **self._known)
        os.replace(unfinished, self._path)


def _key(sample: Tokens) -> str:
    return hashlib.sha256(sample.ids.tobytes() + sample.response.tobytes()).hexdigest()
