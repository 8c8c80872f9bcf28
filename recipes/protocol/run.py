"""The protocol of the paper, as near as a machine allows: real instruction data with real flaws, LoRA of rank 64, the
new skill beside old abilities by lm-evaluation-harness.

    python recipes/protocol/run.py                                  # SmolLM2-135M on a CPU
    python recipes/protocol/run.py --scale gpu-8b                   # meant for one GPU of 80 GB
    python recipes/protocol/run.py --scale gpu-3b --part 1/4        # the same on four machines: each its part
    python recipes/protocol/run.py --conditions own --train mine.jsonl --held-out good.jsonl

It needs `pip install ".[demo,study,harness]"`. Kill it and start it again: a cell is a file, written when it is done,
and never run twice. It ends with the report; `report.py` makes it of what several machines have left in one folder.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

import cells
import conditions
import grid as grids
import provenance
import sources
from cell import Cell

HERE = Path(__file__).parent
DECIDES = [HERE / f"{name}.py" for name in ("sources", "conditions", "measure", "abilities", "cell")]
"""Of this folder, what decides how a cell comes out; what only plans or reports may change."""


def main(argv: Sequence[str] | None = None) -> int:
    import torch

    started = time.monotonic()
    arguments = _parse(argv)
    try:
        only = {name: getattr(arguments, name) for name in ("arms", "conditions", "seeds")}
        grid = grids.load(arguments.grid, arguments.scale, **only)
        if arguments.model:
            grid.settings["model"] = arguments.model
        own = (arguments.train, arguments.held_out) if arguments.train and arguments.held_out else None
        _check(grid, arguments.data, own)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        origin = provenance.of_this(DECIDES, grid.settings.get("model", Cell.model), device)
        run = functools.partial(_run, folder=arguments.data, own=own, origin=origin)
        deadline = started + 60 * arguments.minutes
        runner = cells.Runner(arguments.output / "cells", run, arguments.workers, deadline)
        provenance.require_same(runner.results(), ("this run", origin))
        threads = max(1, (os.cpu_count() or 1) // max(1, arguments.workers))
        with cells.pool(arguments.workers, threads) as pool:
            runner.run_all(pool, _part(list(grid.tuning()), arguments.part), "tuning")
            print(grid.budget())
            chosen = grid.choose(runner.results())
            if len(chosen) < sum(len(grid.needed(condition)) for condition in grid.conditions):
                print("Arms whose tuning is not done (by this part, or in time) do not report yet.")
            runner.run_all(pool, _part(list(grid.final(chosen)), arguments.part), "final")
    except ValueError as error:
        print(f"protocol: {error}", file=sys.stderr)
        return 2
    from report import report

    report(arguments.output)
    return 1 if runner.failed else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="cpu", help="a name under `scales` in the grid (default: %(default)s)")
    parser.add_argument("--grid", type=Path, default=HERE / "grid.yaml", help="what to run (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/protocol"), help="folder (default: %(default)s)")
    parser.add_argument("--model", help="name or folder, instead of the scale's")
    parser.add_argument("--data", type=Path, help="folder of the sources' files (default: fetched into the cache)")
    parser.add_argument("--train", type=Path, help="of the condition `own`: JSONL with `prompt` and `completion`")
    parser.add_argument("--held-out", type=Path, help="of the condition `own`: the same, right answers")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a cell; 0: only this one")
    parser.add_argument("--part", type=_fraction, default=(1, 1), help="k/n: only each n-th cell, from the k-th on")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after so long")
    for name in ("arms", "conditions"):
        parser.add_argument(f"--{name}", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="instead of the scale's")
    return parser.parse_args(argv)


def _fraction(text: str) -> tuple[int, int]:
    part, _, of = text.partition("/")
    if not (part.isdigit() and of.isdigit() and 1 <= int(part) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: write it as 2/4, the second of four")
    return int(part), int(of)


def _part(planned: list[Cell], part: tuple[int, int]) -> list[Cell]:
    return planned[part[0] - 1 :: part[1]]


def _check(grid: grids.Grid, folder: Path | None, own: tuple[Path, Path] | None) -> None:
    """Everything that has to be fetched is fetched, before the first cell is trained."""
    for condition in grid.conditions:
        conditions.load(condition, folder, own)
    for task in grid.settings.get("tasks", ()):
        if task in sources.SOURCES:
            sources.path_of(task, folder)


def _run(cell: Cell, folder: Path | None, own: tuple[Path, Path] | None, origin: dict[str, Any]) -> dict[str, Any]:
    from cell import run

    return {**run(cell, folder, own), "provenance": origin}


if __name__ == "__main__":
    sys.exit(main())
