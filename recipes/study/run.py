"""Runs the study: strategies under conditions with seeds, as grid.yaml says, through TRL.

    python recipes/study/run.py --workers 2                                     # all of it; hours on a CPU
    python recipes/study/run.py --conditions clean --strategies full random sstoken
    python recipes/study/run.py --check chats-64x1-bfloat16-random_tokens-rel-seed0

Kill it and start it again: cells that are done are kept, one file each, and never run twice. Ends with the report.
`--check` runs one cell of the committed table again, and plain fine-tuning beside it: is the verdict the same here?
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

from cells import Runner, pool

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "study.csv"
TOLERANCE = 0.05
"""Nats: two machines' differences to plain fine-tuning count as one if they are this near, or of one sign."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    if arguments.check:
        return check(arguments)
    try:
        planned = cells(yaml.safe_load(arguments.grid.read_text(encoding="utf-8")))
        chosen = [
            dataclasses.replace(cell, seed=seed, decoded=arguments.decode if cell.data == "gsm8k" else 0)
            for cell in planned
            for seed in arguments.seeds or [cell.seed]
            if (not arguments.conditions or cell.condition in arguments.conditions)
            and (not arguments.strategies or cell.strategy in arguments.strategies)
        ]
        chosen = list({cell.name: cell for cell in chosen}.values())
        if not chosen:
            raise ValueError(f"{arguments.grid} has no cell of these conditions and strategies.")
        run = functools.partial(_run, model=model_of(arguments), gsm8k=arguments.gsm8k)
        runner = Runner(arguments.output / "cells", run, arguments.workers)
        threads = max(1, (os.cpu_count() or 1) // max(1, arguments.workers))
        with pool(arguments.workers, threads) as workers:
            runner.run_all(workers, chosen, "study")
    except ValueError as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    from report import report

    report(arguments.output, planned=[cell.name for cell in chosen])
    return 1 if runner.failed else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, default=HERE / "grid.yaml", help="what to run (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/study"), help="folder (default: %(default)s)")
    parser.add_argument("--model", help="name or folder (default: SmolLM2-135M-Instruct, from PyPI)")
    parser.add_argument("--gsm8k", type=Path, help="folder with GSM8K's train.jsonl and test.jsonl (default: the hub)")
    parser.add_argument(
        "--decode", type=int, default=0, metavar="N", help="answer N of GSM8K's test questions, too; for a GPU"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a cell; 0: only this one")
    for name in ("conditions", "strategies"):
        parser.add_argument(f"--{name}", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="instead of the grid's")
    parser.add_argument(
        "--check", metavar="CELL", help=f"a name in {RESULTS.relative_to(HERE)}: run it again and compare"
    )
    parser.add_argument("--table", type=Path, default=RESULTS, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def cells(grid: dict[str, Any]) -> list[Any]:
    """Stage by stage, and in each seed by seed: a study that was stopped has whole tables of fewer seeds.

    Raises:
        ValueError: for unknown names.
    """
    from cell import Cell
    from conditions import CONDITIONS

    found: dict[str, Any] = {}
    known = {
        "strategies": grid["strategies"],
        "conditions": CONDITIONS,
        "settings": {field.name for field in dataclasses.fields(Cell)},
    }
    for number, stage in enumerate(grid["stages"]):
        for what, names in known.items():
            if strange := sorted(set(stage.get(what, ())) - set(names)):
                raise ValueError(f"Stage {number} of the grid has unknown {what} {strange}; known: {sorted(names)}.")
        for seed in stage["seeds"]:
            for condition in stage["conditions"]:
                for strategy in stage["strategies"]:
                    cell = Cell(strategy, condition, seed, grid["strategies"][strategy], **stage.get("settings", {}))
                    found.setdefault(cell.name, cell)
    return list(found.values())


def model_of(arguments: argparse.Namespace) -> str:
    if arguments.model:
        return str(arguments.model)
    from sstoken_trl.demo.model import model_folder

    return str(model_folder(Console()))


def _run(cell: Any, model: str, gsm8k: Path | None) -> dict[str, Any]:
    from cell import run

    return run(cell, model, gsm8k)


def check(arguments: argparse.Namespace) -> int:
    """Runs a cell of the table and its control again, and says whether the verdict is the same.

    Returns:
        0 if it is, 1 if not, 2 if there is no such cell.
    """
    import pandas as pd
    from cell import Cell, run

    table = pd.read_csv(arguments.table).convert_dtypes().set_index("name")
    if arguments.check not in table.index:
        print(f"study: no cell {arguments.check!r} in {arguments.table}; its first are {', '.join(table.index[:3])}")
        return 2
    strategy = table.loc[arguments.check, "strategy"]
    now: dict[str, float] = {}
    then: dict[str, float] = {}
    for name in (arguments.check, arguments.check.replace(f"-{strategy}-seed", "-full-seed")):
        row = table.loc[name]
        # Cells of before a setting was added do not have it.
        settings = {field.name: row[field.name] for field in dataclasses.fields(Cell) if pd.notna(row[field.name])}
        settings = {key: value.item() if hasattr(value, "item") else value for key, value in settings.items()}
        cell = Cell(**{**settings, "options": json.loads(row.options)})
        now[cell.strategy] = run(cell, model_of(arguments), arguments.gsm8k)["nll"]
        then[cell.strategy] = float(row.nll)
        print(f"{cell.name}: held-out loss {then[cell.strategy]:.3f} in the table, {now[cell.strategy]:.3f} here")
    differences = then[strategy] - then["full"], now[strategy] - now["full"]
    print("against plain fine-tuning: {:+.3f} in the table, {:+.3f} here".format(*differences))
    same = differences[0] * differences[1] > 0 or abs(differences[0] - differences[1]) <= TOLERANCE
    print("The verdict is the same." if same else "The verdict is ANOTHER one.")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
