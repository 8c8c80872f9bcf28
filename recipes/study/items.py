"""The single items of a cell, and their means: so that a report can draw other items like these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Items = dict[str, list[float]]
"""By metric, a number for each item; `tokens` and `unrelated_tokens` say how many tokens an answer has."""
WEIGHTS = {"nll": "tokens", "token_accuracy": "tokens", "unrelated_nll": "unrelated_tokens"}
"""Metrics that are means over tokens, and what counts the tokens of each item. The others are means over items."""


def averaged(items: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of each metric sum(w_i x_i) / sum(w_i), with w_i the tokens of item i where it is a mean over tokens, else 1."""
    means = {}
    for metric, values in items.items():
        if metric in WEIGHTS.values():
            continue
        weights = items[WEIGHTS[metric]] if metric in WEIGHTS else [1.0] * len(values)
        means[metric] = sum(w * x for w, x in zip(weights, values, strict=True)) / sum(weights)
    return means
