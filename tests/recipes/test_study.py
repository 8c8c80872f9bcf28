"""The study from end to end, with a tiny model and a few made-up sums."""

from __future__ import annotations

import json
import random
import re

import pytest

from .conftest import RECIPES, recipe

for module in ("trl", "chatterbot_corpus", "pandas", "scipy", "matplotlib"):
    pytest.importorskip(module)

GRID = """
strategies:
  full: {strategy: full}
  random: {strategy: random}
  oracle: {strategy: oracle}
  sstoken: {strategy: sstoken}
stages:
  - settings: {data: gsm8k, precision: float32, samples: 6, batch: 3, max_tokens: 200, held_out: 4, unrelated: 2}
    conditions: [random_tokens]
    strategies: [full, random, oracle, sstoken]
    seeds: [0, 1, 2]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory, model_dir):
    """A function that runs the study's command, and the folder that it writes to."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "grid.yaml").write_text(GRID)
    rng = random.Random(0)
    for split, count in (("train", 30), ("test", 8)):
        sums = [(rng.randint(1, 50), rng.randint(1, 50)) for _ in range(count)]
        rows = [
            {"question": f"What is {a} + {b}?", "answer": f"{a} + {b} = <<{a}+{b}={a + b}>>{a + b}\n#### {a + b}"}
            for a, b in sums
        ]
        lines = map(json.dumps, rows)
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")

    with recipe("study") as patch:
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        import cell
        import run

        cell._set_up()

        def command(*arguments: str) -> int:
            given = ("--grid", folder / "grid.yaml", "--gsm8k", folder, "--model", model_dir, "--workers", 0)
            return run.main([*map(str, given), "--output", str(folder / "out"), *arguments])

        yield command, folder / "out"


@pytest.fixture(scope="module")
def tiny_model_and_encoder(study, model_dir):
    from conditions import Encoder
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype="float32")
    return model, Encoder(AutoTokenizer.from_pretrained(model_dir))


def test_run_resume_report_and_check(study, capsys):
    command, out = study
    assert command("--seeds", "0") == 0
    assert "4 cells, 0 of them done already" in capsys.readouterr().out
    first = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert command() == 0
    assert "12 cells, 4 of them done already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in first} == first

    summary = (out / "summary.md").read_text()
    assert re.search(r"\| `oracle` \| 3 \|", summary)
    assert "Failed: none." in summary
    assert "not run (number of runs): none." in summary
    assert (out / "summary.svg").read_text().startswith("<?xml")

    import pandas as pd

    table = pd.read_csv(out / "study.csv")
    assert len(table) == 12
    assert "exact_match" not in table
    by_strategy = table.groupby("strategy")
    assert (by_strategy.corrupted_of_kept.max()["oracle"], by_strategy.corrupted_of_dropped.min()["oracle"]) == (0, 1)
    assert (table.corrupted - 0.3).abs().max() < 0.15
    # Cells of one seed differ in the strategy alone, so all see the same data and begin from the same model.
    assert (table.groupby("seed").nunique()[["response_tokens", "corrupted"]] == 1).all(axis=None)
    assert table.nll_before.nunique() == 1

    # What is published of a cell is the mean of its items, and the intervals are over them, too.
    row = table.iloc[0]
    losses, tokens = json.loads(row.items_nll), json.loads(row.items_tokens)
    assert len(losses) == 4
    assert sum(x * n for x, n in zip(losses, tokens, strict=True)) / sum(tokens) == pytest.approx(row.nll, rel=1e-4)
    assert "differences are over seeds and items" in summary
    assert "over seeds only" not in summary

    name = "gsm8k-6x1-float32-random_tokens-sstoken-seed1"
    # As in a table with cells of before `decoded` was a setting.
    older = table.assign(decoded=table.decoded.where(table.name != name))
    older.to_csv(out / "older.csv", index=False)
    assert command("--check", name, "--table", str(out / "older.csv")) == 0
    said, row = capsys.readouterr().out, table.set_index("name").loc[name]
    assert f"{name}: held-out loss {row.nll:.3f} in the table, {row.nll:.3f} here" in said
    assert "The verdict is the same." in said


def made_up(strategy: str, seed: int, nll: float, items: list[float] | None = None, data: str = "chats") -> dict:
    """A row of the table, of the first kind without items."""
    row = {
        "data": data, "samples": 6, "epochs": 1, "precision": "float32", "condition": "clean", "strategy": strategy,
        "seed": seed, "nll": nll, "keep_rate": 1.0, "corrupted": 0.0, "corrupted_of_kept": 0.0, "cpu_seconds": 1.0,
        "corrupted_of_dropped": 0.0, "memory_mb": 1.0,
    }  # fmt: skip
    return row if items is None else {**row, "items_nll": json.dumps(items), "items_tokens": "[1, 3]"}


def test_only_what_is_left_after_holm_is_called_better(study):
    import pandas as pd
    from averages import means, uncorrected, verdict

    rows = []
    for seed in range(3):
        rows += [made_up("full", seed, 1.0), made_up("random", seed, (0.9, 1.0, 1.1)[seed])]
        rows += [made_up("sure", seed, 0.5 + seed / 1000), made_up("maybe", seed, (0.7, 0.75, 0.8)[seed])]
        rows += [made_up(f"nothing{i}", seed, (0.9, 1.0, 1.1)[seed]) for i in range(7)]
    averages = means(pd.DataFrame(rows)).set_index("strategy", drop=False)
    assert (averages.nll_items.dropna() == 0).all()
    of = averages.loc["maybe"]
    assert of.nll_vs_full_p == pytest.approx(0.01307, abs=1e-5)  # t = -8.66 with 2 degrees of freedom
    assert of.nll_vs_full_holm == pytest.approx(9 * of.nll_vs_full_p)  # second of ten
    assert (uncorrected(of, "nll"), verdict(of, "nll")) == ("better", "same")
    assert verdict(averages.loc["sure"], "nll") == "better"
    assert verdict(averages.loc["full"], "nll") == "same"


def test_items_are_drawn_anew_where_both_cells_have_them(study):
    import pandas as pd
    from averages import means

    # The second answer, of three tokens, gains 0.4 under every seed; the first nothing.
    rows = []
    for seed in range(3):
        rows += [made_up(name, seed, 1.0, [1.0, 1.0]) for name in ("full", "random")]
        rows += [made_up("new", seed, 0.7, [1.0, 0.6]), made_up("old", seed, 0.7)]
    averages = means(pd.DataFrame(rows)).set_index("strategy")
    new, old = averages.loc["new"], averages.loc["old"]
    assert (new.nll_items, old.nll_items) == (2, 0)
    assert new.nll_vs_full == pytest.approx(old.nll_vs_full) == pytest.approx(-0.3)
    assert (old.nll_vs_full_half, new.nll_vs_full_half > 0.3) == (0, True)


def test_decoding_many_is_decoding_each(study, tiny_model_and_encoder):
    from measure import decode

    model, encoder = tiny_model_and_encoder
    questions = ["What is 2 + 3?", "How many apples are left if Mary eats 3 of 8 and then buys 12 more?", "1 + 1?"]
    said = decode(model, questions, encoder, max_new_tokens=12)
    assert said == [decode(model, [question], encoder, max_new_tokens=12)[0] for question in questions]
    assert len(set(said)) > 1


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("3 + 4 = 7\n#### 7", "7"),
        ("#### 1,234", "1234"),
        ("so it is ####-5.50 dollars", "-5.50"),
        ("#### 8\n#### 9", "8"),
        ("It is 7.", None),
    ],
)
def test_final_number(study, answer, number):
    from measure import final_number

    assert final_number(answer) == number


def test_no_cell_of_the_committed_grid_is_without_controls(study):
    import run
    import yaml

    planned = run.cells(yaml.safe_load((RECIPES / "study" / "grid.yaml").read_text()))
    by_setting: dict[str, set[str]] = {}
    for cell in planned:
        by_setting.setdefault(str(cell.batches), set()).add(cell.strategy)
    assert all({"full", "random"} <= strategies for strategies in by_setting.values())


def test_decode_adds_the_exact_match(study, tmp_path):
    command, _ = study
    chosen = ("--seeds", "0", "--strategies", "full", "--decode", "2", "--output", str(tmp_path))
    assert command(*chosen) == 0
    import pandas as pd

    table = pd.read_csv(tmp_path / "study.csv")
    assert table[["exact_match_before", "exact_match"]].isin([0, 0.5, 1]).all(axis=None)


def test_which_signal_tells_what_was_spoiled(study, tmp_path, monkeypatch, model_dir):
    _, out = study
    import pandas as pd
    import spoiled

    setting = {"samples": 9, "batch": 1, "max_tokens": 200, "precision": "float32"}
    monkeypatch.setitem(spoiled.SETTINGS, "gsm8k", setting)
    arguments = ["--to", tmp_path, "--model", model_dir, "--gsm8k", out.parent, "--data", "gsm8k", "--seeds", "1"]
    spoiled.main(list(map(str, arguments)))
    found = pd.read_csv(tmp_path / "spoiled.csv")
    assert set(found.signal) == set(spoiled.SIGNALS)
    assert found.tokens.dropna().between(0, 1).all()
    assert found[found.condition == "swapped_responses"].answers.between(0, 1).all()
    assert "| `prompt_gain` | 0." in (tmp_path / "spoiled.md").read_text()


def test_the_part_that_is_lower_is_counted_pair_by_pair(study):
    import pandas as pd
    from spoiled import part

    rng = random.Random(0)
    values = pd.Series([rng.randrange(6) for _ in range(40)])
    corrupted = pd.Series([rng.random() < 0.3 for _ in range(40)])
    pairs = [(a, b) for a in values[corrupted] for b in values[~corrupted]]
    assert part(values, corrupted) == pytest.approx(sum((a < b) + (a == b) / 2 for a, b in pairs) / len(pairs))
    assert part(values, corrupted & False) is None


def test_every_cell_of_the_committed_table_can_be_chosen_again(study):
    """Cells of before options belonged to somebody set none that would be refused now."""
    import pandas as pd
    import run
    import yaml
    from once import HISTORY

    from sstoken_plugins import SSTokenConfig, TokenSelector

    grid = run.cells(yaml.safe_load((RECIPES / "study" / "grid.yaml").read_text()))
    table = [json.loads(options) for options in pd.read_csv(run.RESULTS).options]
    distinct = {json.dumps(options, sort_keys=True) for options in [cell.options for cell in grid] + table}
    assert len(distinct) > 20
    for options in distinct:
        TokenSelector(SSTokenConfig(**{"history": HISTORY, **json.loads(options)}))


def test_what_an_earlier_cell_has_scored_is_to_the_bit_what_base_scores(study, model_dir):
    import torch
    from once import HISTORY, Once
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from sstoken_plugins import SSTokenConfig, TokenSelector

    Once.start("cells that see these batches")
    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model_dir, dtype="float32"), LoraConfig(target_modules="all-linear")
    )
    ids = torch.randint(5, 200, (2, 12))
    batch = {"input_ids": ids, "labels": torch.where(torch.arange(12) < 7, -100, ids)}
    read = {}
    for history in ("base", HISTORY, HISTORY):
        selector = TokenSelector(SSTokenConfig(strategy="grounded", history=history))
        selector.attach(model)
        read[history] = selector.inspect(model, batch, 0).measured
    for name in ("history", "unprompted"):
        assert torch.equal(read["base"][name], read[HISTORY][name])
    assert len(Once._known) == 2  # with the prompts and without; the third selector ran no pass
