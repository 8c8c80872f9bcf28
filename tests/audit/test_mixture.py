"""The test of exchanged pairs on made-up gains, whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from sstoken_audit.mixture import fit, most_likely


def draw(rng, n, share, apart):
    bad = np.arange(n) < round(share * n)
    right = apart + (0.4 * apart + 2) * rng.gumbel(0, 0.6, n)
    wrong = rng.normal(-1, 4, n)
    return np.where(bad, wrong, right), bad, rng.normal(-1, 4, n)


@pytest.mark.parametrize("apart", [8, 60])
def test_clean_data_raise_no_flag(apart):
    alarms = 0
    for seed in range(10):
        gains, _, exchanged = draw(np.random.default_rng(seed), 150, 0, apart)
        alarms += most_likely(fit(gains, exchanged).posterior, 0.1).any()
    assert alarms <= 1


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_stated_rate_holds_and_separate_groups_are_told(share):
    false, recalls, shares = [], [], []
    for seed in range(6):
        gains, bad, exchanged = draw(np.random.default_rng(seed), 200, share, 60)
        found = fit(gains, exchanged)
        flagged = most_likely(found.posterior, 0.1)
        false.append((flagged & ~bad).sum() / max(1, flagged.sum()))
        recalls.append((flagged & bad).sum() / bad.sum())
        shares.append(found.share)
    assert np.mean(false) <= 0.1
    assert np.mean(recalls) >= 0.9
    assert np.mean(shares) == pytest.approx(share, abs=0.03)


def test_a_higher_gain_never_looks_more_exchanged():
    gains, _, exchanged = draw(np.random.default_rng(0), 300, 0.2, 30)
    posterior = fit(gains, exchanged).posterior[np.argsort(gains)]
    assert (np.diff(posterior) <= 1e-12).all()


def test_scale_and_origin_of_the_gains_do_not_matter():
    gains, _, exchanged = draw(np.random.default_rng(1), 200, 0.2, 40)
    found, moved = fit(gains, exchanged), fit(3 * gains + 7, 3 * exchanged + 7)
    np.testing.assert_allclose(found.posterior, moved.posterior, atol=1e-3)


def test_most_likely_is_the_largest_set_within_the_rate():
    posterior = np.array([0.99, 0.2, 0.95, 0.7, 0.6])
    assert most_likely(posterior, 0.1).tolist() == [True, False, True, False, False]
    assert most_likely(posterior, 0.15).tolist() == [True, False, True, True, False]
    assert not most_likely(np.zeros(3), 0.1).any()
