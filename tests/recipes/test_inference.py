"""What a table of differences can bear: intervals, Holm's correction, and what could have been found."""

from __future__ import annotations

import math

import pytest

from .conftest import recipe

np = pytest.importorskip("numpy")
stats = pytest.importorskip("scipy.stats")


@pytest.fixture(scope="module")
def inference():
    with recipe("evidence"):
        import inference

        yield inference


def test_over_seeds_only_it_is_the_paired_t_test(inference):
    differences = [0.3, -0.1, 0.4, 0.25]
    found, known = inference.paired(differences), stats.ttest_1samp(differences, 0)
    interval = known.confidence_interval(0.95)
    assert found["p"] == pytest.approx(known.pvalue)
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))
    assert (inference.paired([0.0, 0.0])["p"], inference.paired([0.5, 0.5])["p"]) == (1, 0)
    assert math.isnan(inference.paired([0.5])["p"])


def test_the_crossed_bootstrap_knows_both_sources_of_chance(inference):
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(50, 1)) * np.ones((1, 40))  # a seed's effect on all items alike
    seeds = inference.crossed(noise, repeats=4000)
    width = 2 * 2.0096 * noise[:, 0].std(ddof=1) / math.sqrt(50)  # of the t interval over seeds, 49 degrees of freedom
    assert seeds["high"] - seeds["low"] == pytest.approx(width, rel=0.05)
    items = inference.crossed(noise[:40].T, repeats=4000)  # no seed differs from another: only the items are chance
    assert items["high"] - items["low"] == pytest.approx(
        2 * 2.0227 * noise[:40, 0].std() / math.sqrt(40) * math.sqrt(40 / 39), rel=0.05
    )
    assert inference.crossed(np.zeros((3, 4)))["p"] == 1
    assert math.isnan(inference.crossed(np.ones((1, 4)))["p"])


def test_an_item_of_more_tokens_counts_for_more(inference):
    pairs = np.array([[1.0, 0.0], [0.5, 0.0], [1.5, 0.0]])
    assert inference.crossed(pairs, [1, 3])["difference"] == pytest.approx(0.25)
    doubled = inference.crossed(np.repeat(pairs, 5, axis=1), [2] * 10)
    plain = inference.crossed(np.repeat(pairs, 5, axis=1))
    assert doubled == pytest.approx(plain)


def test_holm_by_hand(inference):
    # Times 4, 3, 2, 1 from the smallest on, and never falling: .01*4, max(.04, .02*3), max(.06, .03*2), max(.06, .5)
    assert inference.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert inference.holm([0.9, math.nan, 0.8])[[0, 2]] == pytest.approx([1, 1])
    assert math.isnan(inference.holm([0.9, math.nan])[1])


def test_what_could_be_found_is_just_marked(inference):
    differences = np.array([0.1, 0.3, 0.2, 0.45, 0.15])
    error = differences.std(ddof=1) / math.sqrt(5)
    least = inference.detectable(error, 5, family=20)
    shifted = differences - differences.mean() + least
    assert inference.holm([inference.paired(shifted)["p"], *[0.9] * 19])[0] == pytest.approx(0.05)
