"""Rows unlike the others to the model, and rows that hold nothing new."""

from __future__ import annotations

import numpy as np

from sstoken_plugins import hookimpl

from ..rows import Rows
from .base import Check, Register, robust_z


class Outlier(Check):
    """The answer's loss or entropy is far above that of the other rows."""

    name = "outlier"
    formula = "the larger of (x - median) / (1.4826 MAD) of the mean loss and of the mean entropy of the answer"
    threshold = 5.0
    needs_model = True
    order = 80

    def score(self, rows: Rows) -> np.ndarray:
        loss, entropy = [], []
        for _, scores in rows.each_scored():
            loss.append(-scores.log_probs.mean() if len(scores.log_probs) else np.nan)
            entropy.append(scores.entropy.mean() if len(scores.entropy) else np.nan)
        self.columns = {"loss": np.array(loss), "entropy": np.array(entropy)}
        self._z = [robust_z(values) for values in self.columns.values()]
        return np.fmax(*self._z)

    def reason(self, number: int, value: float) -> str:
        which = "loss" if self._z[0][number] == value else "entropy"
        return (
            f"the {which} is {self.columns[which][number]:.2f} nats for a token, {value:.1f} spreads above the median"
        )


class Known(Check):
    """The model knows the answer already."""

    name = "known"
    formula = "exp(mean of log p(token)), the geometric mean of the probabilities of the answer's tokens"
    threshold = 0.95
    needs_model = True
    order = 81

    def score(self, rows: Rows) -> np.ndarray:
        return np.array([np.exp(s.log_probs.mean()) if len(s.log_probs) else np.nan for _, s in rows.each_scored()])

    def reason(self, number: int, value: float) -> str:
        return f"the model gives its tokens a probability of {value:.3f}: there is nothing to learn"


@hookimpl
def register_checks(register: Register) -> None:
    register(Outlier)
    register(Known)
