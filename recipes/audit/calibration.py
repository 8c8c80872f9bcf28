"""Does the stated false discovery rate hold? Resampled rows, with a known share whose prompts were exchanged."""

from __future__ import annotations

from typing import Any

import numpy as np

from sstoken_audit.mixture import fit, most_likely

SHARES, DRAWS, FDR = (0.0, 0.05, 0.1, 0.2), 20, 0.1


def calibration(own: np.ndarray, exchanged: np.ndarray, seed: int, fdr: float = FDR) -> dict[str, Any]:
    """For each share: over `DRAWS` draws, how often the share of right rows among the flagged exceeds `fdr`, its
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
            flagged = most_likely(fitted.posterior, fdr)
            false = (flagged & ~bad).sum() / max(1, flagged.sum())
            draws.append((false > fdr, false, (flagged & bad).sum() / max(1, bad.sum()), fitted.share))
        exceeded, mean, recall, estimate = np.mean(draws, axis=0)
        found[f"{share:g}"] = {
            "exceeded": float(exceeded), "false_discoveries": float(mean),
            "recall": float(recall) if share else None, "estimated_share": float(estimate),
        }  # fmt: skip
    return found


def best_recall(right: np.ndarray, wrong: np.ndarray, share: float, fdr: float = FDR) -> float:
    """The recall that a threshold could reach at this rate by someone who knows which pairs are exchanged: no check
    that orders the rows by this number can flag more.

    Args:
        right, wrong: the number, of pairs that belong together and of those that do not; low is suspicious.
        share: of the pairs that do not.
    """
    best = 0.0
    for threshold in np.sort(wrong):
        found, false = share * (wrong <= threshold).mean(), (1 - share) * (right <= threshold).mean()
        if false <= fdr * (found + false):
            best = max(best, float((wrong <= threshold).mean()))
    return best
