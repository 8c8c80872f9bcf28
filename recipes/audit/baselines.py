"""What one would try first. Higher means more suspicious, as one would guess before looking."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sstoken_audit.checks.base import words
from sstoken_audit.rows import Rows


def all_of(rows: Rows, seed: int) -> dict[str, np.ndarray]:
    """(n,) for each baseline."""
    found = {
        "length": -np.array([len(words(sample.answer)) for sample in rows.each()], float),
        "tfidf": -cosine(rows),
        "random": np.random.default_rng(seed).random(len(rows)),
    }
    if rows.scored:
        scores = [scores for _, scores in rows.each_scored()]
        found["loss"] = np.array([-one.log_probs.mean() for one in scores])
        # Instruction-following difficulty (arXiv 2308.12032): perplexity with the prompt over perplexity without.
        found["ifd"] = np.array([np.exp(one.unprompted.mean() - one.log_probs.mean()) for one in scores])
    return found


def cosine(rows: Rows) -> np.ndarray:
    """(n,) cosine of the TF-IDF vectors of prompt and answer."""
    texts = [(Counter(words(sample.prompt)), Counter(words(sample.answer))) for sample in rows.each()]
    documents = Counter(word for pair in texts for part in pair for word in part)
    weight = {word: np.log((1 + 2 * len(texts)) / (1 + count)) + 1 for word, count in documents.items()}

    def norm(counts: Counter[str]) -> float:
        return float(np.sqrt(sum((n * weight[word]) ** 2 for word, n in counts.items()))) or 1.0

    return np.array(
        [
            sum(n * prompt[word] * weight[word] ** 2 for word, n in answer.items()) / norm(prompt) / norm(answer)
            for prompt, answer in texts
        ]
    )
