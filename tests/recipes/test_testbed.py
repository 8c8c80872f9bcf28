"""The testbed: flaws that know what they spoiled, cells from end to end, and a report whose numbers can be checked."""

from __future__ import annotations

import json
import math
import random

import pytest

from .conftest import RECIPES, made_up

for module in ("trl", "platformdirs", "scipy", "matplotlib"):
    pytest.importorskip(module)
np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

GRID = """
arms:
  full: {options: {strategy: full}}
  sstoken: {options: {strategy: sstoken}, tune: {rho: [0.5, 0.8]}}
  oracle: {options: {strategy: oracle}}
learning_rates:
  1: [1.0e-3, 4.0e-3]
  2: [4.0e-3]
flaws: [alphabet_noise]
regimes:
  many: {samples: 8, epochs: 1}
settings: {batch: 4, new_items: 6, old_items: 2}
seeds: [0, 1]
tuning_seeds: [1000]
headline: {arms: [full], flaws: [alphabet_noise], regimes: [many], seeds: [0]}
"""


@pytest.fixture(scope="module")
def base_folder(testbed):
    from base import Recipe, folder_of

    return folder_of(Recipe(hidden=32, layers=1, heads=2, steps=3, batch=4), cache=testbed / "cache")


@pytest.fixture(scope="module")
def made(testbed):
    """Samples of every flaw, and the new skill's right answer to a prompt."""
    from flaws import FLAWS
    from skills import END, shifted

    samples = {name: flaw(400, random.Random(0), frozenset()) for name, flaw in FLAWS.items()}
    return samples, lambda prompt: (*map(shifted, prompt[2:-1]), END)


WORD_BY_WORD = ("alphabet_noise", "junk", "wrong_rule", "lazy_rule", "duplicates")


def test_spoiled_are_exactly_the_changed_words(made):
    samples, right = made
    for name in (*WORD_BY_WORD, "none", "mixed_difficulty"):
        for sample in samples[name]:
            assert sample.spoiled == tuple(a != b for a, b in zip(sample.response, right(sample.prompt), strict=True))
    for name in ("none", "mixed_difficulty"):
        assert not any(bad for sample in samples[name] for bad in sample.spoiled)
    for sample in samples["truncated"]:
        wanted, cut = right(sample.prompt), sum(sample.spoiled)
        assert sample.response == ((*wanted[:3], wanted[-1]) if cut else wanted)
        assert sample.spoiled == (False,) * (len(sample.response) - 1) + (bool(cut),)
    for sample in samples["boilerplate"]:
        n_chatter = sum(sample.spoiled)
        assert n_chatter in (0, 5)
        assert sample.spoiled == (True,) * n_chatter + (False,) * (len(sample.response) - n_chatter)
        assert sample.response[n_chatter:] == right(sample.prompt)
    for sample in samples["exchanged"]:
        assert len(set(sample.spoiled)) == 1
        assert sample.spoiled[0] or sample.response == right(sample.prompt)
    for sample in samples["irrelevant"]:
        assert sample.spoiled[0] == (sample.prompt[0] != "each")
        assert len(set(sample.spoiled)) == 1


def test_every_flaw_spoils_as_much_as_it_says(made):
    samples, _ = made

    def share(name, of=lambda sample: sample.spoiled[:-1]):
        marks = [mark for sample in samples[name] for mark in of(sample)]
        return sum(marks) / len(marks)

    assert share("alphabet_noise") == pytest.approx(0.4, abs=0.05)
    assert share("junk") == pytest.approx(0.4, abs=0.05)
    assert share("exchanged", lambda sample: sample.spoiled[:1]) == pytest.approx(0.4, abs=0.08)
    assert share("truncated", lambda sample: sample.spoiled[3:4]) == pytest.approx(0.6 * 0.8, abs=0.2)
    assert share("boilerplate", lambda sample: sample.spoiled[:1]) == pytest.approx(0.6, abs=0.08)
    assert len({sample.prompt for sample in samples["duplicates"]}) == pytest.approx(208, abs=3)


def test_optimal_is_what_counting_finds(testbed):
    """p_opt of a first word is how often the flaw's data have it, given the prompt's first letter."""
    from flaws import FLAWS

    for name in ("alphabet_noise", "junk", "wrong_rule", "lazy_rule", "boilerplate"):
        samples = [s for s in FLAWS[name](8_000, random.Random(1), frozenset()) if s.prompt[2] == "a"]
        seen: dict[tuple[str, float], int] = {}
        for sample in samples:
            seen[sample.response[0], sample.optimal[0]] = seen.get((sample.response[0], sample.optimal[0]), 0) + 1
        assert sum(p for _, p in seen) == pytest.approx(1, abs=0.02), name
        for (_, p), count in seen.items():
            assert count / len(samples) == pytest.approx(p, abs=0.05), name


def test_an_exchanged_answer_gives_itself_away(testbed):
    from flaws import FLAWS
    from skills import LETTERS, shifted

    sample = next(
        s
        for s in FLAWS["exchanged"](400, random.Random(0), frozenset())
        if s.spoiled[0] and s.response[0] != shifted(s.prompt[2])
    )
    # At first one of all letters in 40 % of the answers; then it can be no right answer, whatever comes.
    assert sample.optimal[:3] == pytest.approx((0.4 / len(LETTERS), 1 / len(LETTERS), 1 / len(LETTERS)))


def test_the_criterion_is_the_sign_of_the_difference(testbed):
    import torch
    from flaws import Sample
    from predict import predicted

    # Half of the answers are noise over 16: the bar is log 16 = 2.77 nats.
    def auc(n, s):
        sample = Sample((), ("a", "b"), (False, True), (0.5, 0.5 / 16))
        return predicted([sample], torch.tensor([s, n]))

    assert auc(n=4.0, s=1.3)["population"] == 1  # 2.7 nats more surprising: REL of the sound one is higher
    assert auc(n=4.0, s=1.2)["population"] == 0  # 2.8 nats
    assert auc(n=4.0, s=1.3)["memorised"] == 0
    assert auc(n=4.0, s=1.2)["bar"] == pytest.approx(math.log(16))


def test_the_auc_counts_pairs(testbed):
    from measure import auc

    assert auc([3.0, 1.0, 2.0, 2.0], [False, True, False, True]) == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert auc([1.0, 2.0], [False, False]) is None


def test_held_out_items_are_not_trained_on(testbed):
    from cell import Cell, training_data
    from skills import held_out

    test, _ = held_out("test", 200, 1)
    validation, _ = held_out("validation", 200, 1)
    assert len({item.prompt for item in test}) == 200
    trained = {sample.prompt for sample in training_data(Cell("full", "none", 0, samples=3000))}
    assert not trained & {item.prompt for item in (*test, *validation)}
    assert held_out("test", 5, 1, items_seed=1) != held_out("test", 5, 1)


@pytest.fixture(scope="module")
def command(testbed, base_folder):
    import run

    (testbed / "grid.yaml").write_text(GRID)

    def call(*arguments: str) -> int:
        given = ("--grid", testbed / "grid.yaml", "--base", base_folder, "--workers", 0, "--output", testbed / "out")
        return run.main([*map(str, given), *arguments])

    return call


def test_tune_run_resume_and_report(command, testbed, capsys):
    assert command("--seeds", "0") == 0
    said = capsys.readouterr().out
    assert "tuning: 6 cells, 0 of them done" in said
    assert "2 trials for each of 3 arms" in said
    assert "final: 3 cells, 0 of them done" in said
    first = {path: path.stat().st_mtime_ns for path in (testbed / "out" / "cells").iterdir()}
    assert len(first) == 9
    assert command() == 0
    assert "final: 6 cells, 3 of them done" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in first} == first

    table = pd.read_csv(testbed / "out" / "results.csv")
    assert table.groupby("role").size().to_dict() == {"final": 6, "tuning": 6}
    assert (table.split == table.role.map({"final": "test", "tuning": "validation"})).all()
    by_arm = table.groupby("arm")
    assert (by_arm.spoiled_of_kept.max()["oracle"], by_arm.spoiled_of_dropped.min()["oracle"]) == (0, 1)
    assert (by_arm.keep_rate.max()["full"], by_arm.keep_rate.min()["full"]) == (1, 1)
    # Cells of one seed differ in the arm alone, so all see the same data.
    assert (table.groupby("seed").spoiled.nunique() == 1).all()
    assert table.auc_rel.between(0, 1).all()
    assert (testbed / "out" / "summary.svg").read_text().startswith("<?xml")
    assert "| many | `alphabet_noise`: 40 % of the letters" in (testbed / "out" / "summary.md").read_text()
    # A table says the same as the cells that it was made of.
    from report import summary
    from table import collect

    assert summary(table) == summary(collect(testbed / "out"))


def test_a_run_that_is_out_of_time_begins_nothing(command, testbed, capsys):
    assert command("--output", str(testbed / "late"), "--minutes", "0") == 0
    assert not list((testbed / "late" / "cells").glob("*.json"))


def test_the_headline_says_its_verdict(command, capsys, monkeypatch, tmp_path):
    import verdict

    monkeypatch.setattr(verdict, "COMMITTED", tmp_path / "none.csv")  # what is committed is of the real grid
    assert command("--headline", "--arms", "full", "oracle") == 0
    assert "many, alphabet_noise: `oracle` is no different" in capsys.readouterr().out


def test_cells_of_other_code_are_refused(command, testbed, capsys):
    path = next((testbed / "out" / "cells").glob("*oracle*-test*.json"))
    content = path.read_text()
    changed = json.loads(content)
    changed["provenance"]["code"] = "of yesterday"
    path.write_text(json.dumps(changed))
    try:
        assert command() == 2
        assert "`code` is" in (said := capsys.readouterr().err)
        assert "of yesterday" in said
    finally:
        path.write_text(content)


def test_another_machine_or_revision_may_choose_but_not_report(testbed):
    from provenance import require_same

    def cell(split, **origin):
        same = {"code": "c", "base": "b", "device": "cpu", "versions": {}}
        return {"cell": {"arm": "full", "seed": 0, "flaw": "none", "split": split}, "provenance": {**same, **origin}}

    here = cell("test")
    require_same([cell("validation", device="cuda"), here, cell("validation", versions={"torch": "3"}, code="old")])
    with pytest.raises(ValueError, match="`device` is 'cpu' in full of seed 0, none and 'cuda'"):
        require_same([here, cell("test", device="cuda")])
    with pytest.raises(ValueError, match="`base`"):
        require_same([here, cell("validation", base="other")])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"  2: [4.0e-3]": "  2: [4.0e-3, 8.0e-3]"}, "different numbers of trials"),
        ({"flaws: [alphabet_noise]": "flaws: [typos]"}, "'typos'"),
        ({"seeds: [0, 1]": "seeds: [0, 1000]"}, "both chooses and reports"),
        ({"  2: [4.0e-3]": "  3: [4.0e-3]"}, "`arms.sstoken.tune` has 2 combinations"),
    ],
)
def test_grids_that_compare_unlike_things_are_refused(testbed, tmp_path, change, said):
    from grid import load

    content = GRID
    for old, new in change.items():
        assert old in content
        content = content.replace(old, new, 1)
    (tmp_path / "grid.yaml").write_text(content)
    with pytest.raises(ValueError, match=said):
        load(tmp_path / "grid.yaml")


def test_the_committed_grid_is_sound(testbed):
    from grid import load

    grid = load(RECIPES / "testbed" / "grid.yaml")
    assert {"full", "full_low_lr", "random", "oracle", "sstoken"} <= set(grid.arms)
    assert len(grid.flaws) >= 10
    assert len(grid.seeds) >= 10
    assert set(load(RECIPES / "testbed" / "grid.yaml", headline=True).arms) <= set(grid.arms)


def test_differences_are_paired_by_seed_and_item(testbed):
    from compare import differences

    rows = [made_up("full", seed, new) for seed, new in enumerate(("1100", "1000", "1100"))]
    rows += [made_up("better", seed, new) for seed, new in enumerate(("1110", "1100"))]
    found = differences(pd.DataFrame(rows)).set_index("measure").loc["skill"]
    # One item more in each of the two seeds that both have.
    assert (found.difference, found["mean"], found.plain, found.seeds) == (0.25, 0.625, 0.375, 2)
    assert found.low < 0.25 < found.high


def test_the_decision_table_names_what_helps_and_what_it_costs(testbed):
    from report import summary

    rows = []
    for seed in range(4):
        rows += [
            made_up("full", seed, "1" * 200 + "0" * 200, "10" * 100),
            made_up("sharp", seed, "1" * 380 + "0" * 20, "10" * 100),
            made_up("harsh", seed, "1" * 390 + "0" * 10, "1000" * 50),
            made_up("mild", seed, "1" * 200 + "0" * 200, "1" * 200),
            made_up("oracle", seed, "1" * 400, "10" * 100),
            made_up("trusted", seed, "1" * 400, "1" * 200),
        ]
    # `harsh` has the most skill and forgets for it; nobody can choose the oracle, or samples known to be right.
    assert "| 0.50, 0.50 | `sharp` +0.45 (+0.00) | `mild` +0.50 (+0.00) | +0.50 |" in summary(pd.DataFrame(rows))


def test_predictions_are_hits_or_misses(testbed):
    from report import checked

    table = pd.DataFrame(
        [made_up("full", seed, "1", flaw=flaw, auc=auc) for seed in (0, 1) for flaw, auc in (("a", 0.8), ("b", 0.8))]
    )
    flaws = {name: {"regimes": {"many": {"auc": auc}}} for name, auc in (("a", 0.7), ("b", 0.2))}
    said = checked(table, {"base": "b", "flaws": flaws})
    assert "| many | a | 0.70 right | 0.80 right | 2 | hit |" in said
    assert "| many | b | 0.20 wrong | 0.80 right | 2 | **miss** |" in said
    assert "1 hits, 1 misses." in said
    assert "another base model" in checked(table, {"base": "other", "flaws": flaws})
