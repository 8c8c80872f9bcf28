"""Runs the testbed: tunes every arm on validation items, measures on test items with fresh seeds, and reports.

    python recipes/testbed/run.py --workers 2 --minutes 60
    python recipes/testbed/run.py --flaws boilerplate --arms full sstoken --regimes many
    python recipes/testbed/run.py --workers 2 --headline     # one row, and whether it comes out as committed

Kill it and start it again: a cell is a file, written when it is done, and never run twice. After `--minutes` no
further cell is begun. Cells come in an order in which whatever is finished is a balanced set: all arms of a flaw, all
flaws of a seed, then the next seed.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

import base
import cells
import grid as grids
import provenance
import tuning
from cell import Cell

HERE = Path(__file__).parent
DECIDES = [HERE / f"{name}.py" for name in ("skills", "flaws", "measure", "oracle", "variants", "cell")]
"""Of this folder, what decides how a cell comes out; what only plans, draws or reports may change."""


def main(argv: Sequence[str] | None = None) -> int:
    started = time.monotonic()
    arguments = _parse(argv)
    try:
        only = {name: getattr(arguments, name) for name in ("arms", "flaws", "regimes", "seeds")}
        grid = grids.load(arguments.grid, headline=arguments.headline, **only)
        folder = arguments.base or base.folder_of(say=print)
        origin = provenance.of_this(DECIDES, base.fingerprint(folder), arguments.device)
        run = functools.partial(_run, folder=folder, device=arguments.device, origin=origin)
        deadline = started + 60 * arguments.minutes
        runner = cells.Runner(arguments.output / "cells", run, arguments.workers, deadline)
        provenance.require_same(runner.results(), ("this run", origin))
        with cells.pool(arguments.workers) as pool:
            runner.run_all(pool, list(grid.tuning()), "tuning")
            chosen = tuning.choose(grid, runner.results())
            print(tuning.budget(grid))
            if arguments.stage == "all":
                runner.run_all(pool, list(_final(grid, chosen)), "final")
    except ValueError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 2
    if not runner.results():
        print("No cell is done: nothing to report.")
    elif arguments.stage == "all":
        from report import report

        table = report(arguments.output)
        if arguments.headline and not _same_verdict(table):
            return 1
    return 1 if runner.failed else 0


def _same_verdict(table: Any) -> bool:
    import pandas as pd
    from verdict import COMMITTED, verdict

    text, same = verdict(table, pd.read_csv(COMMITTED) if COMMITTED.is_file() else None)
    print(text)
    return same


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, default=HERE / "grid.yaml", help="what to run (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/testbed"), help="folder (default: %(default)s)")
    parser.add_argument("--base", type=Path, help="folder of the base model (default: made once, in the user's cache)")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a cell; 0: only this one")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after so long")
    parser.add_argument("--headline", action="store_true", help="what `headline` in the grid says, and the verdict")
    parser.add_argument("--stage", choices=("all", "tune"), default="all", help="tune: no more than the tuning")
    for name in ("arms", "flaws", "regimes"):
        parser.add_argument(f"--{name}", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="instead of the grid's")
    return parser.parse_args(argv)


def _final(grid: grids.Grid, chosen: tuning.Chosen) -> Iterator[Cell]:
    """The cells that report, each arm as it was tuned; of rows of which every arm was tuned."""
    for seed, regime, flaw in grid.rows():
        arms = [arm for arm in grid.arms if grids.trial_is_needed(flaw, arm)]
        if all((regime, flaw, arm) in chosen for arm in arms):
            for arm in arms:
                yield grid.cell(arm, flaw, regime, seed, chosen[regime, flaw, arm])


def _run(cell: Cell, folder: Path, device: str, origin: dict[str, Any]) -> dict[str, Any]:
    from cell import run

    return {**run(cell, folder, device), "provenance": origin}


if __name__ == "__main__":
    sys.exit(main())
