"""Text that no reader could have expected."""

from __future__ import annotations

import math

import numpy as np

from sstoken_plugins import hookimpl

from ..rows import Rows
from .base import Check, Register

WINDOW = 8


class Gibberish(Check):
    """Part of the answer is as hard to predict as random tokens."""

    name = "gibberish"
    formula = f"largest mean of -log p(token) / log V over {WINDOW} tokens in a row; 1 is a uniform guess"
    threshold = 0.75
    needs_model = True
    order = 10

    def score(self, rows: Rows) -> np.ndarray:
        guess = math.log(rows.vocabulary)
        values, shares, runs = [], [], []
        for _, scores in rows.each_scored():
            surprise = -scores.log_probs / guess
            width = min(WINDOW, len(surprise))
            values.append(np.convolve(surprise, np.full(width, 1 / width), "valid").max() if width > 2 else np.nan)
            worse = surprise > 1
            shares.append(worse.mean() if len(worse) else np.nan)
            runs.append(_longest_run(worse))
        self._shares, self._runs = np.array(shares), np.array(runs, float)
        self.columns = {"share_below_uniform": self._shares, "run_below_uniform": self._runs}
        return np.array(values)

    def reason(self, number: int, value: float) -> str:
        return (
            f"{WINDOW} tokens in a row are {value:.0%} as surprising as random ones; {self._shares[number]:.0%} of "
            f"all are less likely than a uniform guess, {self._runs[number]:.0f} of them in a row"
        )


def _longest_run(true: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], true.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


@hookimpl
def register_checks(register: Register) -> None:
    register(Gibberish)
