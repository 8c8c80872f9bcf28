"""Runs the study: every strategy under every condition with every seed, through TRL.

    python recipes/study/run.py                                            # what grid.yaml says; hours on a CPU
    python recipes/study/run.py --conditions clean --strategies full sstoken --seeds 0 1 2

Kill it and start it again: cells that are done are kept, one file each, and never run twice. Ends with the report.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from tqdm import tqdm

HERE = Path(__file__).parent


def main() -> int:
    arguments = _parse()
    grid = yaml.safe_load(arguments.grid.read_text(encoding="utf-8"))
    from report import report

    try:
        cells = _cells(grid, arguments)
        waiting = [cell for cell in cells if not _is_done(cell, arguments.output)]
    except ValueError as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    print(f"{len(cells)} cells, {len(cells) - len(waiting)} of them done already, in {arguments.output}")
    failed = _run_all(waiting, arguments) if waiting else 0
    report(arguments.output)
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, default=HERE / "grid.yaml", help="what to run (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/study"), help="folder (default: %(default)s)")
    parser.add_argument("--model", help="name or folder (default: SmolLM2-135M-Instruct, from PyPI)")
    parser.add_argument("--gsm8k", type=Path, help="folder with GSM8K's train.jsonl and test.jsonl (default: the hub)")
    parser.add_argument("--workers", type=int, default=1, help="cells at the same time (default: %(default)s)")
    for name in ("conditions", "strategies"):
        parser.add_argument(f"--{name}", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="instead of the grid's")
    return parser.parse_args()


def _cells(grid: dict[str, Any], arguments: argparse.Namespace) -> list[Any]:
    """Stage by stage, and in each seed by seed: a study that was stopped has whole tables of fewer seeds."""
    from cell import Cell
    from conditions import CONDITIONS

    cells: dict[str, Any] = {}
    known = [*grid["strategies"]], [*CONDITIONS], {field.name for field in dataclasses.fields(Cell)}
    for number, stage in enumerate(grid["stages"]):
        for what, names, there in zip(
            ("strategies", "conditions", "settings"),
            (stage["strategies"], stage["conditions"], stage.get("settings", {})),
            known,
            strict=True,
        ):
            if strange := sorted(set(names) - set(there)):
                raise ValueError(f"{arguments.grid}, stage {number}: unknown {what} {strange}; known: {sorted(there)}")
        for seed in arguments.seeds or stage["seeds"]:
            for condition in _chosen(arguments.conditions, stage["conditions"]):
                for strategy in _chosen(arguments.strategies, stage["strategies"]):
                    cell = Cell(strategy, condition, seed, grid["strategies"][strategy], **stage.get("settings", {}))
                    cells.setdefault(cell.name, cell)
    if not cells:
        raise ValueError(f"{arguments.grid} has no cell of these conditions and strategies.")
    return list(cells.values())


def _chosen(wanted: list[str] | None, known: Sequence[str]) -> list[str]:
    return [name for name in known if wanted is None or name in wanted]


def _file(cell: Any, output: Path) -> Path:
    return output / "cells" / f"{cell.name}.json"


def _is_done(cell: Any, output: Path) -> bool:
    path = _file(cell, output)
    if not path.is_file():
        return False
    if json.loads(path.read_text(encoding="utf-8"))["cell"] != dataclasses.asdict(cell):
        raise ValueError(f"{path} was run with other settings: choose another --output, or delete it to run it again")
    return True


def _run_all(cells: list[Any], arguments: argparse.Namespace) -> int:
    model = _model(arguments)
    (arguments.output / "cells").mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // arguments.workers)
    failed = 0
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        futures = {
            pool.submit(_run_one, cell, model, arguments.gsm8k, _file(cell, arguments.output), threads): cell
            for cell in cells
        }
        with tqdm(total=len(cells), unit="cell", smoothing=0.1) as progress:
            for future in as_completed(futures):
                cell = futures[future]
                try:
                    result = future.result()
                    progress.write(f"{cell.name}: {result['nll']:.3f} nats, {result['cpu_seconds']:.0f} s CPU")
                except Exception as error:
                    failed += 1
                    progress.write(f"{cell.name}: FAILED, {type(error).__name__}: {error}")
                progress.update()
    return failed


def _model(arguments: argparse.Namespace) -> str:
    if arguments.model:
        return str(arguments.model)
    from sstoken_trl.demo.model import model_folder

    return str(model_folder(Console()))


def _run_one(cell: Any, model: str, gsm8k: Path | None, path: Path, threads: int) -> dict[str, Any]:
    import torch
    from cell import run

    torch.set_num_threads(threads)
    result = run(cell, model, gsm8k)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    return result


if __name__ == "__main__":
    sys.exit(main())
