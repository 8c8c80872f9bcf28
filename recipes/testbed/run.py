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
import gc
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import base
import grid as grids
import provenance
import tuning
from cell import Cell
from tqdm import tqdm

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    started = time.monotonic()
    arguments = _parse(argv)
    try:
        only = {name: getattr(arguments, name) for name in ("arms", "flaws", "regimes", "seeds")}
        grid = grids.load(arguments.grid, headline=arguments.headline, **only)
        folder = arguments.base or base.folder_of(say=print)
        runner = Runner(arguments, folder, started)
        with _pool(arguments.workers) as pool:
            runner.run_all(pool, list(grid.tuning()), "tuning")
            chosen = tuning.choose(grid, runner.results())
            print(tuning.budget(grid))
            if arguments.stage == "all":
                runner.run_all(pool, list(_final(grid, chosen)), "final")
    except ValueError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 2
    if not any(runner.cells.glob("*.json")):
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


class Runner:
    """Runs cells in processes until all are done or the time is up."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, started: float) -> None:
        self.arguments, self.folder = arguments, folder
        self.deadline = started + 60 * arguments.minutes
        self.provenance = provenance.of_this(base.fingerprint(folder), arguments.device)
        self.cells = arguments.output / "cells"
        self.cells.mkdir(parents=True, exist_ok=True)
        self.failed = 0
        self._seconds: list[float] = []
        provenance.require_same(self.results(), ("this run", self.provenance))

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.cells.glob("*.json"))]

    def run_all(self, pool: Executor, cells: Sequence[Cell], what: str) -> None:
        waiting = [cell for cell in cells if not self._is_done(cell)]
        print(f"{what}: {len(cells)} cells, {len(cells) - len(waiting)} of them done already, in {self.cells}")
        at_once = max(1, self.arguments.workers)
        queue, running = iter(waiting), {}
        with tqdm(total=len(waiting), unit="cell", smoothing=0.1, mininterval=1) as progress:
            while True:
                while len(running) < at_once and self._has_time() and (cell := next(queue, None)):
                    running[self._submit(pool, cell)] = cell
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self._finish(running.pop(future), future, progress)
                    progress.update()

    def _has_time(self) -> bool:
        """Whether a cell that starts now ends before the deadline, as far as the last ones tell."""
        recent = self._seconds[-32:]
        return time.monotonic() + (max(recent) if recent else 0) < self.deadline

    def _submit(self, pool: Executor, cell: Cell) -> Future[float]:
        return pool.submit(_run_one, cell, self.folder, self.arguments.device, self._file(cell), self.provenance)

    def _finish(self, cell: Cell, future: Future[float], progress: Any) -> None:
        try:
            self._seconds.append(future.result())
        except Exception as error:
            self.failed += 1
            message = f"{type(error).__name__}: {error}"
            progress.write(f"{cell.name}: FAILED, {message}")
            self._file(cell).with_suffix(".failed").write_text(message + "\n", encoding="utf-8")

    def _file(self, cell: Cell) -> Path:
        return self.cells / f"{cell.name}.json"

    def _is_done(self, cell: Cell) -> bool:
        path = self._file(cell)
        if not path.is_file():
            return False
        if Cell(**json.loads(path.read_text(encoding="utf-8"))["cell"]) != cell:
            raise ValueError(f"{path} was run with other settings: choose another --output, or delete it.")
        return True


def _pool(workers: int) -> Executor:
    if workers == 0:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@functools.cache
def _keep_imports() -> None:
    """After the first cell: what is imported stays, so the collector need not look at it in every cell (a tenth of
    its time)."""
    gc.collect()
    gc.freeze()


def _run_one(cell: Cell, folder: Path, device: str, path: Path, origin: dict[str, Any]) -> float:
    """Runs a cell and writes its file whole or not at all. Returns how many seconds it took."""
    from cell import run

    result = {**run(cell, folder, device), "provenance": origin}
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)
    path.with_suffix(".failed").unlink(missing_ok=True)
    _keep_imports()
    seconds: float = result["seconds"]["all"]
    return seconds


if __name__ == "__main__":
    sys.exit(main())
