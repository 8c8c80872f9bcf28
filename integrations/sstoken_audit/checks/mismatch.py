"""Answers to another question."""

from __future__ import annotations

import numpy as np

from sstoken_plugins import hookimpl

from ..mixture import Mixture, fit, most_likely
from ..rows import Rows
from .base import Check, Register

FEWEST = 8


class Mismatch(Check):
    """The answer is not explained by its prompt.

    The gain is `sum_t log(p(y_t | prompt) + 1/V) - log(p(y_t) + 1/V)`, in nats. Prompts are exchanged among rows to
    learn how the gain looks where prompt and answer do not belong together; `mixture` says how likely that is of each
    row. Flagged are as many rows as keep the expected share of right rows among them at or below the threshold.

    Where nothing can be flagged, rows are best looked at in the order of `prompt_gain_over_others`, which takes the
    mean of `p(y | no prompt)` and `p(y | another row's prompt)` for what the answer is worth by itself.
    """

    name = "mismatch"
    formula = (
        "P(exchanged | gain), gain = sum of log(p(token | prompt) + 1/V) - log(p(token) + 1/V); flagged: the most "
        "rows whose mean of 1 - P is at most the threshold (a false discovery rate)"
    )
    threshold = 0.1
    needs_model = True
    is_probability = True
    order = 0

    def score(self, rows: Rows) -> np.ndarray:
        guess = -np.log(rows.vocabulary)
        gains: list[float] = []
        per_token: list[float] = []
        over_others: list[float] = []
        exchanged: list[float] = []
        for _, scores in rows.each_scored():
            if not len(scores.log_probs):
                for each in (gains, per_token, over_others):
                    each.append(np.nan)
                continue
            without = np.logaddexp(scores.unprompted, guess)
            gain = np.logaddexp(scores.log_probs, guess) - without
            gains.append(float(gain.sum()))
            per_token.append(float(gain.mean()))
            over_others.append(gains[-1])
            if scores.exchanged is not None:
                exchanged.append(float((np.logaddexp(scores.exchanged, guess) - without).sum()))
                over_others[-1] -= float(np.logaddexp(0, exchanged[-1]) - np.log(2))
        self._gains = np.array(gains)
        self.columns = {
            "prompt_gain": self._gains,
            "prompt_gain_per_token": np.array(per_token),
            "prompt_gain_over_others": np.array(over_others),
        }
        known = np.isfinite(self._gains)
        if known.sum() < FEWEST or len(exchanged) < FEWEST:
            self.note = f"Fewer than {FEWEST} rows with a prompt: too few to tell which answers belong to another."
            return np.full(len(gains), np.nan)
        found = fit(self._gains[known], np.array(exchanged), rows.seed)
        values, self._as_good = (np.full(len(gains), np.nan) for _ in range(2))
        values[known], self._as_good[known] = found.posterior, found.exchanged_as_good
        self.columns["exchanged_as_good"] = self._as_good
        self.note = self._summary(found, values)
        return values

    def _summary(self, found: Mixture, values: np.ndarray) -> str:
        if not found.share:
            return (
                f"No sign of answers that belong to another prompt (p = {found.p_value:.2g}). A few may hide among "
                "the lowest prompt_gain_over_others: the page sorts by it."
            )
        note = f"About {found.share:.1%} of the answers seem to belong to another prompt."
        n, expected = int(self.flag(values).sum()), found.share * np.isfinite(values).sum()
        if n < expected / 2:
            note += (
                f" Only {n} of about {expected:.0f} can be told from right ones at a false discovery rate of "
                f"{self.threshold:.0%}: many right answers gain as little from their prompts. Allow more with --fdr, "
                "or sort the page by the lowest prompt_gain_over_others."
            )
        return note

    def flag(self, values: np.ndarray) -> np.ndarray:
        return most_likely(np.nan_to_num(values), self.threshold)

    def reason(self, number: int, value: float) -> str:
        return (
            f"the prompt gains {self._gains[number]:.1f} nats for the answer; {self._as_good[number]:.0%} of prompts "
            f"of other rows gain as much (belongs to another prompt with probability {value:.2f})"
        )


@hookimpl
def register_checks(register: Register) -> None:
    register(Mismatch)
