"""A training that is killed before any operation on a file ends, once resumed, where the one ends that never was."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sstoken_transformers import newest_whole_checkpoint

from .process import apart
from .training import HISTORIES, earlier_adapter, learned, make

OPERATIONS = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link")


def on_operation(folder: Path, act: Callable[[int], None]) -> None:
    """From here on, `act(n)` is called before the n-th operation that changes a file below `folder`."""
    inside, number = str(folder), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal number
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(path, str | os.PathLike) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            changes, path = event in OPERATIONS, arguments[0] if arguments else ""
        if not changes:
            return
        # Deleting a tree names files below an open folder, without the path to it.
        relative = event != "open" and not os.path.isabs(os.fspath(path))
        if relative or os.fspath(path).startswith(inside):
            number += 1
            act(number)

    sys.addaudithook(hook)


def train(folder: Path, history: str) -> None:
    trainer = make(folder, history)
    resume = newest_whole_checkpoint(folder) is not None
    trainer.train(resume_from_checkpoint=True if resume else None)
    torch.save(learned(trainer), folder / "final.pt")


def train_and_die(folder: Path, history: str, at: int) -> None:
    on_operation(folder, lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == at else None)
    train(folder, history)


def train_and_count(folder: Path, history: str) -> None:
    count = [0]
    on_operation(folder, lambda number: count.__setitem__(0, number))
    train(folder, history)
    (folder / "operations").write_text(str(count[0]))


def killed(ledger: Any, tmp_path: Path, history: str, kills: int | None) -> None:
    """At `kills` random operations, or at each."""
    earlier_adapter(tmp_path)
    whole = tmp_path / "whole"
    assert apart(train_and_count, whole, history) == 0
    n = int((whole / "operations").read_text())
    expected = torch.load(whole / "final.pt")
    places = range(1, n + 1) if kills is None else sorted(random.Random(history).sample(range(1, n + 1), kills))
    for place in places:
        folder = tmp_path / f"killed-{place}"
        assert apart(train_and_die, folder, history, place) == -signal.SIGKILL
        ledger.trial(
            "kill at a file operation", (history, place, n), lambda folder=folder: resumed(folder, history),
            lambda found: all(torch.equal(found[name], expected[name]) for name in expected),
        )  # fmt: skip


def resumed(folder: Path, history: str) -> dict[str, torch.Tensor]:
    assert apart(train, folder, history) == 0
    found: dict[str, torch.Tensor] = torch.load(folder / "final.pt")
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("history", HISTORIES)
def test_killed_at_any_file_operation(ledger, tmp_path, history):
    killed(ledger, tmp_path, history, 34)


def test_killed_at_some_file_operations(ledger, tmp_path):
    killed(ledger, tmp_path, "snapshot", 2)
