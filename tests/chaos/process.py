"""Runs a function in a process of its own, which inherits what this one has imported."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


def apart(function: Callable[..., None], *arguments: Any, timeout: float = 300) -> int | None:
    """Its exit status: 0, 1 after an error, or the negative number of the signal that ended it."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(function, *arguments))
    gc.freeze()  # or the first collection in the new process copies all memory that it shares
    process.start()
    gc.unfreeze()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f"{function.__name__}{arguments} was not done after {timeout} seconds")
    return process.exitcode


def _run(function: Callable[..., None], *arguments: Any) -> None:
    try:
        function(*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # nothing of the parent's is to be ended twice
