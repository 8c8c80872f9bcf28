"""Does the stated false discovery rate hold? Resampled rows, with a known share whose prompts were exchanged."""

from __future__ import annotations

from typing import Any

import numpy as np

from sstoken_audit.mixture import fit, most_likely

SHARES, DRAWS, FDR = (0.0, 0.05, 0.1, 0.2), 20, 0.1


def calibration(own: np.ndarray, exchanged: np.ndarray, seed: int) -> dict[str, Any]:
    """For each share: over `DRAWS` draws, how often the share of right rows among the flagged exceeds `FDR`, its
    mean, the recall, and the estimated share of exchanged pairs.

    Two thirds of the rows are the data of a draw. The exchanged pairs of half of all rows are what the check knows of
    such pairs; those among the data come from the other half.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for share in SHARES:
        draws = []
        for _ in range(DRAWS):
            order = rng.permutation(len(own))
            known, others = np.array_split(order, 2)
            n = 2 * len(own) // 3
            bad = np.arange(n) < round(share * n)
            data = np.where(bad, exchanged[rng.choice(others, n)], own[rng.permutation(len(own))[:n]])
            fitted = fit(data, exchanged[known])
            flagged = most_likely(fitted.posterior, FDR)
            false = (flagged & ~bad).sum() / max(1, flagged.sum())
            draws.append((false > FDR, false, (flagged & bad).sum() / max(1, bad.sum()), fitted.share))
        exceeded, mean, recall, estimate = np.mean(draws, axis=0)
        found[f"{share:g}"] = {
            "exceeded": float(exceeded), "false_discoveries": float(mean),
            "recall": float(recall) if share else None, "estimated_share": float(estimate),
        }  # fmt: skip
    return found
