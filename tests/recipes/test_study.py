"""The study from end to end, with a tiny model and a few made-up sums."""

from __future__ import annotations

import json
import logging
import random
import re

import pytest

from sstoken_plugins.plugins import plugin_manager

from ..processes import TOP

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

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOP / "recipes" / "study"))
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        import run

        def command(*arguments: str) -> int:
            given = ("--grid", folder / "grid.yaml", "--gsm8k", folder, "--model", model_dir, "--workers", 0)
            return run.main([*map(str, given), "--output", str(folder / "out"), *arguments])

        yield command, folder / "out"
        # What the study adds to this process would watch the other tests' selections.
        import once
        import variants

        for module in (once, variants):
            if plugin_manager().is_registered(module):
                plugin_manager().unregister(module)
        logging.getLogger("sstoken_plugins").setLevel(logging.NOTSET)


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
    by_strategy = table.groupby("strategy")
    assert (by_strategy.corrupted_of_kept.max()["oracle"], by_strategy.corrupted_of_dropped.min()["oracle"]) == (0, 1)
    assert (table.corrupted - 0.3).abs().max() < 0.15
    # Cells of one seed differ in the strategy alone, so all see the same data and begin from the same model.
    assert (table.groupby("seed").nunique()[["response_tokens", "corrupted"]] == 1).all(axis=None)
    assert table.nll_before.nunique() == 1

    name = "gsm8k-float32-1ep-random_tokens-sstoken-seed1"
    assert command("--check", name, "--table", str(out / "study.csv")) == 0
    said, row = capsys.readouterr().out, table.set_index("name").loc[name]
    assert f"{name}: held-out loss {row.nll:.3f} in the table, {row.nll:.3f} here" in said
    assert "The verdict is the same." in said


def test_no_cell_of_the_committed_grid_is_without_controls(study):
    import run
    import yaml

    planned = run.cells(yaml.safe_load((TOP / "recipes" / "study" / "grid.yaml").read_text()))
    by_setting: dict[str, set[str]] = {}
    for cell in planned:
        by_setting.setdefault(str(cell.batches), set()).add(cell.strategy)
    assert all({"full", "random"} <= strategies for strategies in by_setting.values())
