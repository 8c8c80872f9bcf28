"""Paired differences with plain fine-tuning: crossed bootstrap over seeds and items, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from table import KEY, bits, final

PLAIN = "full"
REPEATS = 2000
LEVEL = 0.05
MEASURES = {"skill": "new", "retention": "old", "loss": None, "loss_tempered": None}
"""The measures, and the column of their items; None where there is one number for each cell."""


def differences(table: pd.DataFrame, plain: str = PLAIN) -> pd.DataFrame:
    """Of each arm to `plain`, for each regime, flaw and measure, over the seeds that both have.

    Returns:
        `difference`, `low` and `high` (95 %), `p`, `holm`, `seeds`, with `mean` and `plain` of those seeds. Holm's
        family is one measure: all regimes, flaws and arms of its table.
    """
    rows = []
    for (regime, flaw), group in final(table).groupby(KEY, sort=False):
        by_arm = {arm: cells.set_index("seed").sort_index() for arm, cells in group.groupby("arm", sort=False)}
        if plain not in by_arm:
            continue
        for arm, cells in by_arm.items():
            seeds = cells.index.intersection(by_arm[plain].index)
            if arm == plain or not len(seeds):
                continue
            for measure, items in MEASURES.items():
                ours, theirs = cells.loc[seeds], by_arm[plain].loc[seeds]
                if items:
                    pairs = bits(ours[items]) - bits(theirs[items])
                else:
                    pairs = (ours[measure] - theirs[measure]).to_numpy()[:, None]
                rows.append(
                    {
                        "regime": regime,
                        "flaw": flaw,
                        "arm": arm,
                        "measure": measure,
                        "mean": ours[measure].mean(),
                        "plain": theirs[measure].mean(),
                        "seeds": len(seeds),
                        **crossed(pairs),
                    }
                )
    found = pd.DataFrame(rows)
    if len(found):
        found["holm"] = found.groupby("measure").p.transform(lambda p: holm(p.to_numpy()))
    return found


def crossed(pairs: np.ndarray, repeats: int = REPEATS) -> dict[str, float]:
    """The mean of paired differences, for other seeds and other items like these.

    Seeds and items are drawn with replacement, independently of each other, `repeats` times. The standard error is the
    deviation of the means so drawn, times sqrt(n / (n - 1)) for n seeds, as a bootstrap of so few is too narrow. `low`
    and `high` are t quantiles with n - 1 degrees of freedom of it, `p` is two-sided. With one seed they are nan.

    Args:
        pairs: (seeds, items).
    """
    n_seeds, n_items = pairs.shape
    mean = float(pairs.mean())
    if n_seeds < 2:
        return {"difference": mean, "low": np.nan, "high": np.nan, "p": np.nan}
    rng = np.random.default_rng(0)
    seeds = rng.multinomial(n_seeds, [1 / n_seeds] * n_seeds, size=repeats) / n_seeds
    items = rng.multinomial(n_items, [1 / n_items] * n_items, size=repeats) / n_items
    error = float(((seeds @ pairs) * items).sum(1).std()) * np.sqrt(n_seeds / (n_seeds - 1))
    if error < 1e-12:
        return {"difference": mean, "low": mean, "high": mean, "p": 1.0 if abs(mean) < 1e-12 else 0.0}
    reach = stats.t.ppf(1 - LEVEL / 2, n_seeds - 1) * error
    p = 2 * stats.t.sf(abs(mean) / error, n_seeds - 1)
    return {"difference": mean, "low": mean - reach, "high": mean + reach, "p": float(p)}


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
