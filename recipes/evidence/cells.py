"""Runs cells in processes: a cell is a JSON file, written whole when it is done, and never run twice."""

from __future__ import annotations

import functools
import gc
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm


class Runner:
    """Runs cells until all are done or the time is up.

    Args:
        folder: of the files, one for each cell: `cell.name`.json, with its settings under "cell".
        run: makes the content of a cell's file; a picklable function of the cell.
        at_once: how many cells run side by side.
        deadline: by `time.monotonic`; no cell is begun that would end after it, as far as the last ones tell.
    """

    def __init__(
        self, folder: Path, run: Callable[[Any], dict[str, Any]], at_once: int = 1, deadline: float = float("inf")
    ) -> None:
        self.folder, self.run, self.at_once, self.deadline = folder, run, max(1, at_once), deadline
        self.failed = 0
        self._seconds: list[float] = []
        folder.mkdir(parents=True, exist_ok=True)

    def results(self) -> list[dict[str, Any]]:
        """The contents of all files."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.folder.glob("*.json"))]

    def run_all(self, pool: Executor, cells: Sequence[Any], what: str) -> None:
        """Runs those that are not done yet; what fails is said, counted in `failed`, and left for the next run.

        Raises:
            ValueError: if a file holds other settings than the cell of its name.
        """
        waiting = [cell for cell in cells if not self._is_done(cell)]
        print(f"{what}: {len(cells)} cells, {len(cells) - len(waiting)} of them done already, in {self.folder}")
        queue, running = iter(waiting), {}
        with tqdm(total=len(waiting), unit="cell", smoothing=0.1, mininterval=1) as progress:
            while True:
                while len(running) < self.at_once and self._has_time() and (cell := next(queue, None)):
                    running[pool.submit(_run_one, self.run, cell, self._file(cell))] = cell
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self._finish(running.pop(future), future, progress)
                    progress.update()

    def _has_time(self) -> bool:
        recent = self._seconds[-32:]
        return time.monotonic() + (max(recent) if recent else 0) < self.deadline

    def _finish(self, cell: Any, future: Future[float], progress: Any) -> None:
        try:
            self._seconds.append(future.result())
        except Exception as error:
            self.failed += 1
            message = f"{type(error).__name__}: {error}"
            progress.write(f"{cell.name}: FAILED, {message}")
            self._file(cell).with_suffix(".failed").write_text(message + "\n", encoding="utf-8")

    def _file(self, cell: Any) -> Path:
        return self.folder / f"{cell.name}.json"

    def _is_done(self, cell: Any) -> bool:
        path = self._file(cell)
        if not path.is_file():
            return False
        # A file of before a setting was added does not have it: then it was run with the default.
        if type(cell)(**json.loads(path.read_text(encoding="utf-8"))["cell"]) != cell:
            raise ValueError(f"{path} was run with other settings: choose another --output, or delete it.")
        return True


def pool(workers: int, threads: int = 1) -> Executor:
    """Of so many processes with so many threads each; 0: this process."""
    if workers == 0:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(threads,))


def _start(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _run_one(run: Callable[[Any], dict[str, Any]], cell: Any, path: Path) -> float:
    """Runs a cell and writes its file whole or not at all. Returns how many seconds it took."""
    started = time.perf_counter()
    result = run(cell)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)
    path.with_suffix(".failed").unlink(missing_ok=True)
    _keep_imports()
    return time.perf_counter() - started


@functools.cache
def _keep_imports() -> None:
    """After the first cell: what is imported stays, so the collector need not look at it in every cell (a tenth of
    the time of a short one)."""
    gc.collect()
    gc.freeze()
