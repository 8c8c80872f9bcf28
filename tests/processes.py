"""Processes of their own that can't outlive a test, whatever they wait for."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psutil

TOP = Path(__file__).parents[1]


def end(pid: int) -> None:
    """Kills a process and all that it started, also what a launcher put into sessions of its own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [*process.children(recursive=True), process]:  # listed before their parent is gone
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def run(*command: Any, timeout: float = 300, **environment: str) -> tuple[int | None, str]:
    """Runs a command from the top of the checkout, with one core.

    Returns:
        Its status, None if it had to be killed, and all it printed.
    """
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    # A file, since whatever lives on would keep a pipe open.
    with tempfile.TemporaryFile("w+") as output:
        arguments = [str(part) for part in command]
        process = subprocess.Popen(arguments, cwd=TOP, env=env, stdout=output, stderr=subprocess.STDOUT)
        status = None
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            end(process.pid)
            process.wait()
        output.seek(0)
        return status, output.read()


def join(process: Any, timeout: float = 300) -> None:
    """Waits for a `multiprocessing.Process` that has to succeed."""
    try:
        process.join(timeout)
    finally:
        late = process.is_alive()
        end(process.pid)
        process.join()
    assert not late, f"not done after {timeout} seconds"
    assert process.exitcode == 0
