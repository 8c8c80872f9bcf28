"""What does `sstoken audit` say of flaws that nobody planted?

    python recipes/audit/real.py        # SmolLM2-135M: about a quarter of an hour on one core

ratings    answers of Alpaca: which did a judge (Claude) not rate 4.5 of 5 or better?
solutions  one of four models' solutions of each grade-school problem: which are wrong?

For each check and each simple baseline: the probability that a bad row is ranked above a good one. The data are
fetched into the user's cache, as for the protocol. It needs `pip install ".[demo,audit]"`. Writes results/real.json
and results/real.md.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "protocol"))

import baselines
import numpy as np
import sources
import torch
from evidence import area, examine, ranking, revision
from flaws import Pair
from memo import MemoScorer
from rich.console import Console

HERE = Path(__file__).parent
LONGEST = 600
"""Characters of prompt and answer."""
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the sources' files (default: fetched into the cache)")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=120, help="for each seed, half of them bad")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sstoken_trl.demo.model import model_folder

    folder = model_folder(Console(stderr=True))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    cells = []
    for name, make in (("ratings", ratings), ("solutions", solutions)):
        scorer = MemoScorer(model, 2048, arguments.cache / f"{name}.npz")
        for seed in arguments.seeds:
            good, bad = (part[seed * arguments.rows // 2 :][: arguments.rows // 2] for part in make(arguments.data))
            pairs = [*good, *bad]
            random.Random(seed).shuffle(pairs)
            truth = np.array([pair in set(bad) for pair in pairs])
            cells.append({"set": name, "seed": seed, **study(pairs, truth, seed, scorer, tokenizer)})
            print(name, seed, len(pairs), flush=True)
    write({"revision": revision(), "rows": arguments.rows, "cells": cells}, arguments.output)


def ratings(folder: Path | None) -> tuple[list[Pair], list[Pair]]:
    """Good and bad answers, in a fixed random order."""
    rated = {_alpaca(row) for row in sources.read(sources.path_of("rated", folder))}
    pairs = [_alpaca(row) for row in sources.read(sources.path_of("unrated", folder))]
    return _split([(pair, pair in rated) for pair in pairs if pair[1]])


def _alpaca(row: dict[str, str]) -> Pair:
    return "\n\n".join(part for part in (row["instruction"], row["input"]) if part), row["output"].strip()


def solutions(folder: Path | None) -> tuple[list[Pair], list[Pair]]:
    """Right and wrong ones, in a fixed random order; of each problem one."""
    found = []
    for row in sources.read(sources.path_of("solutions", folder)):
        one = row[random.Random(row["question"]).choice(MODELS)]
        found.append(((row["question"], one["solution"]), bool(one["is_correct"])))
    return _split(found)


def _split(pairs: list[tuple[Pair, bool]]) -> tuple[list[Pair], list[Pair]]:
    short = [one for one in pairs if len(one[0][0]) + len(one[0][1]) <= LONGEST]
    random.Random(0).shuffle(short)
    return [pair for pair, good in short if good], [pair for pair, good in short if not good]


def study(pairs: list[Pair], truth: np.ndarray, seed: int, scorer: MemoScorer, tokenizer: Any) -> dict[str, Any]:
    rows, findings = examine(pairs, scorer, tokenizer, seed)
    flagged = np.any([finding.flagged for finding in findings], axis=0)
    return {
        "checks": {one.check.name: area(one.values, truth, ranking(one)) for one in findings if np.ptp(ranking(one))},
        "baselines": {name: area(values, truth) for name, values in baselines.all_of(rows, seed).items()},
        "flagged": {"bad": float(flagged[truth].mean()), "good": float(flagged[~truth].mean())},
    }


def write(found: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "real.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# Flaws that nobody planted",
        "",
        f"Made by `real.py` with SmolLM2-135M-Instruct in float32; {found['rows']} rows for each seed, half of them "
        "bad. AUC: the probability that a bad row is ranked above a good one, 0.5 is chance; the mean over the seeds, "
        "with the lowest and the highest. Checks whose value is the same for all rows are left out.",
    ]
    for name in dict.fromkeys(cell["set"] for cell in found["cells"]):
        cells = [cell for cell in found["cells"] if cell["set"] == name]
        lines += ["", f"## {name}, {len(cells)} seeds", "", "| ranked by | AUC |", "|---|---|"]
        for kind, title in (("checks", "`{}`"), ("baselines", "{}, a baseline")):
            for key in dict.fromkeys(key for cell in cells for key in cell[kind]):
                values = [cell[kind].get(key, 0.5) for cell in cells]
                lines.append(
                    f"| {title.format(key)} | {np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f}) |"
                )
        share = {which: np.mean([cell["flagged"][which] for cell in cells]) for which in ("bad", "good")}
        of = f"{share['bad']:.0%} of the bad rows and {share['good']:.0%} of the good ones"
        lines += ["", f"At the default thresholds {of} are flagged."]
    (folder / "real.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
