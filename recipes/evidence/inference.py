"""What a table of paired differences can bear: intervals, p-values, Holm's correction, and what could have been found.

The study, the testbed and `docs/results.py` share it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

REPEATS = 2000
LEVEL = 0.05
NOTHING = 1e-12
"""A difference or a standard error below this is 0, but for rounding."""


def paired(differences: Sequence[float]) -> dict[str, float]:
    """The mean of paired differences, for other seeds like these: the paired t-test.

    Args:
        differences: (seeds,).

    Returns:
        As `crossed`.
    """
    values = np.asarray(differences, dtype=float)
    n_seeds = len(values)
    error = float(values.std(ddof=1)) / n_seeds**0.5 if n_seeds > 1 else np.nan
    return _of_t(float(values.mean()), error, n_seeds)


def crossed(pairs: np.ndarray, weights: Sequence[float] | None = None, repeats: int = REPEATS) -> dict[str, float]:
    """The mean of paired differences, for other seeds and other items like these.

    Seeds and items are drawn with replacement, independently of each other, `repeats` times. The standard error is the
    deviation of the means so drawn, times sqrt(n / (n - 1)) for n seeds, as a bootstrap of so few is too narrow.

    Args:
        pairs: (seeds, items).
        weights: (items,) what an item counts, such as its number of tokens; all the same if None.

    Returns:
        `difference`, its standard error `error`, `low` and `high`, t quantiles with n - 1 degrees of freedom of it
        (95 %), and `p`, two-sided. With one seed all but `difference` are nan.
    """
    n_seeds, n_items = pairs.shape
    counts = np.ones(n_items) if weights is None else np.asarray(weights, dtype=float)
    mean = float((pairs @ counts).mean() / counts.sum())
    if n_seeds < 2:
        return _of_t(mean, np.nan, n_seeds)
    seeds, items = _draws(n_seeds, n_items, repeats)
    drawn = items * counts
    means = ((seeds @ pairs) * drawn).sum(1) / drawn.sum(1)
    return _of_t(mean, float(means.std()) * np.sqrt(n_seeds / (n_seeds - 1)), n_seeds)


@functools.lru_cache(maxsize=8)
def _draws(n_seeds: int, n_items: int, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed and each item was drawn, as shares: (repeats, seeds) and (repeats, items)."""
    rng = np.random.default_rng(0)
    seeds = rng.multinomial(n_seeds, [1 / n_seeds] * n_seeds, size=repeats) / n_seeds
    items = rng.multinomial(n_items, [1 / n_items] * n_items, size=repeats) / n_items
    return seeds, items


def _of_t(mean: float, error: float, n_seeds: int) -> dict[str, float]:
    found = {"difference": mean, "error": error}
    if np.isnan(error):
        return {**found, "low": np.nan, "high": np.nan, "p": np.nan}
    if error < NOTHING:
        return {**found, "low": mean, "high": mean, "p": 1.0 if abs(mean) < NOTHING else 0.0}
    reach = float(stats.t.ppf(1 - LEVEL / 2, n_seeds - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, n_seeds - 1))
    return {**found, "low": mean - reach, "high": mean + reach, "p": p}


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down: the k-th smallest of m, times m - k + 1, and never below one that is smaller; at most 1.

    nan stays nan and counts for nothing.
    """
    values = np.asarray(p, dtype=float)
    adjusted = np.full_like(values, np.nan)
    order = [int(i) for i in values.argsort() if not np.isnan(values[i])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, values[i] * (len(order) - rank)))
        adjusted[i] = highest
    return adjusted


def detectable(error: float, n_seeds: int, family: int) -> float:
    """The smallest difference that Holm's correction marks for certain, whatever else is in the table.

    `error` times the t quantile with n - 1 degrees of freedom at LEVEL / (2 `family`): Holm asks the smallest p-value
    of m to be below LEVEL / m, and the others less. A true difference of that size is found half of the time.

    Args:
        error: standard error of the difference.
        family: how many differences the correction is over.
    """
    return float(stats.t.ppf(1 - LEVEL / (2 * family), n_seeds - 1)) * error


def mark(found: Any, better: int = 1) -> str:
    """'better' or 'worse' where `holm` is below LEVEL, else ''.

    Args:
        found: has `difference` and `holm`.
        better: the sign of a difference that is an improvement.
    """
    if not found.holm < LEVEL:
        return ""
    return "better" if found.difference * better > 0 else "worse"
