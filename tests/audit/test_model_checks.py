"""What the model tells of an answer: each check finds its own flaw and is silent on rows without one."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from sstoken_audit import audit
from sstoken_audit.checks.mismatch import Mismatch
from sstoken_audit.rows import RowScores

from .conftest import WORDS, pairs, rows

N, BAD = 120, list(range(5, 120, 12))
MODEL_CHECKS = ("mismatch", "gibberish", "truncated", "outlier", "known", "over_long")


def exchanged(made):
    return {i: (made[i][0], made[BAD[(k + 1) % len(BAD)]][1]) for k, i in enumerate(BAD)}


def gibberish(made):
    rare = " ".join(WORDS[-8:])
    return {i: (made[i][0], f"{made[i][1][:-2]} {rare} .") for i in BAD}


def truncated(made):
    return {i: (made[i][0], " ".join(made[i][1].split()[:2])) for i in BAD}


def over_long(made):
    return {i: (made[i][0], " ".join([made[i][1]] * 30)) for i in BAD}


@pytest.mark.parametrize(
    ("check", "spoil"),
    [("mismatch", exchanged), ("gibberish", gibberish), ("truncated", truncated), ("over_long", over_long)],
)
def test_finds_its_flaw(check, spoil, model, tokenizer):
    made = pairs(N, seed=2)
    spoiled = spoil(made)
    data = rows([spoiled.get(i, pair) for i, pair in enumerate(made)])
    result = audit(data, model, tokenizer, checks=[check, "outlier"], max_length=100)
    found = set(np.flatnonzero(result.findings[0].flagged).tolist())
    assert result.findings[0].check.name == check
    assert len(found & set(BAD)) >= 0.9 * len(BAD)
    assert len(found - set(BAD)) <= 0.1 * len(found)
    assert all(result.reasons(i) for i in found)


def test_silent_on_clean_rows(model, tokenizer):
    result = audit(rows(pairs(N, seed=3)), model, tokenizer, checks=MODEL_CHECKS)
    assert result.flagged.sum() == 0, {f.check.name: np.flatnonzero(f.flagged) for f in result.findings}
    assert "No sign" in result.findings[0].check.note


def test_mismatch_estimates_the_share(model, tokenizer):
    made = pairs(N, seed=4)
    data = rows([exchanged(made).get(i, pair) for i, pair in enumerate(made)])
    result = audit(data, model, tokenizer, checks=["mismatch"])
    share = float(re.search(r"About ([\d.]+)%", result.findings[0].check.note).group(1))
    assert share == pytest.approx(100 * len(BAD) / N, abs=2)
    gain = result.columns()["prompt_gain"]
    assert gain[BAD].max() < np.delete(gain, BAD).min()


def test_the_gain_over_others_is_against_the_mean_of_two_probabilities():
    """Of a row without and one with another row's prompt."""
    own, alone, other = (np.array(values) for values in ([-1.0, -2.0], [-3.0, -2.5], [-1.5, -2.5]))
    more = {"log_probs": own, "entropy": np.zeros(2), "unprompted": alone, "end": np.nan, "n_tokens": 4, "n_cut": 0}
    scored = [(None, RowScores(exchanged=each, **more)) for each in (None, other)]
    check = Mismatch()
    check.score(SimpleNamespace(vocabulary=10**12, seed=0, each_scored=lambda: scored))
    expected = [
        np.exp(own.sum()) / np.exp(alone.sum()),
        np.exp(own.sum()) / np.mean(np.exp([alone.sum(), other.sum()])),
    ]
    assert check.columns["prompt_gain_over_others"] == pytest.approx(np.log(expected), abs=1e-6)


def test_known_and_outlying_answers(model, tokenizer):
    made = pairs(N, seed=5)
    made[7] = (made[7][0], " ".join([WORDS[-1], WORDS[-2]] * 4))  # words the model has never seen
    result = audit(rows(made), model, tokenizer, checks=["outlier"])
    assert result.suspects.tolist() == [7]
    # One word four times over is all there is to answer.
    sure = [(" ".join([word] * 4), f"{word} {word} {word} {word} {word} .") for word in WORDS[:20]]
    assert audit(rows(sure), model, tokenizer, checks=["known"], thresholds={"known": 0.3}).flagged.mean() > 0.8


def test_answers_that_are_cut_off_whole_do_not_stop_the_audit(model, tokenizer):
    made = pairs(30, seed=6)
    made[3] = (" ".join([made[3][0]] * 20), made[3][1])  # the prompt alone fills the length
    made[4] = (made[4][0], "")
    result = audit(rows(made), model, tokenizer, max_length=60, skip=["language"])
    assert result.findings[0].flagged.shape == (30,)
    assert any("cut off" in reason for reason in result.reasons(3))
    assert "the answer is empty" in result.reasons(4)


def test_of_few_rows_nothing_is_claimed(model, tokenizer):
    result = audit(rows(pairs(5, seed=7)), model, tokenizer, checks=["mismatch"])
    assert not result.flagged.any()
    assert "too few" in result.findings[0].check.note
