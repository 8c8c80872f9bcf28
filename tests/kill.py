"""Kills a training at random moments and starts it again, until it is done."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

from . import processes


def killed_at_random(train: Callable[..., None], kills: int, seed: int) -> None:
    """Runs `train(elsewhere=True)` to its end, then `train()`, which has to resume by itself, in processes of which
    all but the last are killed after a random time.
    """
    context = multiprocessing.get_context("fork")  # what was imported need not be imported again

    def start(**options: bool) -> Any:
        process = context.Process(target=train, kwargs=options)
        process.start()
        return process

    rng = random.Random(seed)
    began = time.monotonic()
    processes.join(start(elsewhere=True))
    duration = time.monotonic() - began
    for _ in range(kills):
        process = start()
        process.join(rng.uniform(0.05, 0.25) * duration)  # so that something is left to do for all
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    processes.join(start())
