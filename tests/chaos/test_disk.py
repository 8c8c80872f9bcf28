"""A disk that is full: what was written before stays, and the error says how much room is needed."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sstoken_plugins import BatchIndex
from sstoken_plugins.store import DiskStore
from sstoken_transformers import newest_whole_checkpoint

from ..store.stores import MADE_BY, documents, made, padded
from .process import apart
from .test_kill import resumed, train
from .training import HISTORIES, earlier_adapter, make


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of its own, of so many bytes."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False,
                             capture_output=True)  # fmt: skip
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """Files of this process can have so many bytes."""
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, was[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
        signal.signal(signal.SIGXFSZ, handler)


def said(folder: Path) -> torch.Tensor:
    return DiskStore(folder).get(BatchIndex.of(padded(documents(12) + documents(400, seed=4))[0]))[0]


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.equal(found.nan_to_num(7), expected.nan_to_num(7))


@pytest.mark.parametrize("size", [16_384, 20_480, 28_672])
def test_a_store_on_a_full_disk_stays_as_it_was(ledger, tmp_path, size):
    with small_disk(tmp_path / "disk", size) as disk:
        made(disk / "store", documents(12))
        expected = said(disk / "store")
        came = ledger.trial("full disk", ("tmpfs", size), lambda: made(disk / "store", documents(400, seed=4)),
                     lambda found: len(DiskStore(disk / "store")) == 412,
                     names=("MB of log-probabilities", str(disk), "the disk is full"),
                     also=(OSError,))  # fmt: skip
        assert came == "survived" or same(said(disk / "store"), expected)
        assert not list((disk / "store").glob(".unfinished*"))


@pytest.mark.parametrize("size", [0, 1, 100, 1000, 5000])
def test_a_store_whose_file_cannot_grow_stays_as_it_was(ledger, tmp_path, size):
    made(tmp_path / "store", documents(12))
    expected = said(tmp_path / "store")
    with small_files(size):
        ledger.trial("full disk", ("file", size), lambda: made(tmp_path / "store", documents(400, seed=4)),
                     lambda found: False, names=("MB of log-probabilities", str(tmp_path)),
                     also=(OSError,))  # fmt: skip
    assert same(said(tmp_path / "store"), expected)


def test_a_store_that_cannot_even_begin(ledger, tmp_path):
    with small_files(10):
        ledger.trial("full disk", "manifest", lambda: DiskStore(tmp_path / "store").create(MADE_BY),
                     lambda found: False, names=str(tmp_path), also=(OSError,))  # fmt: skip
    made(tmp_path / "store", documents(12))


def train_on_a_full_disk(folder: Path, history: str, size: int | None) -> None:
    """Writes down what it says when it fails."""
    try:
        with (
            contextlib.nullcontext() if size is None else small_files(size),
            open(os.devnull, "w") as nowhere,  # pytest catches what is printed in a file, which is limited too
            contextlib.redirect_stdout(nowhere),
        ):
            make(folder, history).train()
    except Exception as error:
        (folder.parent / "said").write_text(f"{type(error).__name__}: {error}")
        raise


def stopped_for_want_of_room(ledger: Any, folder: Path, history: str, size: int | None) -> bool:
    """Whether it stopped; then it says what could not be written, and what to do."""

    def attempt() -> None:
        if apart(train_on_a_full_disk, folder, history, size) == 1:
            raise OSError((folder.parent / "said").read_text())

    came = ledger.trial("full disk, while a checkpoint is written", (history, size), attempt, lambda found: True,
                        names=("could not be", "ake room"), also=(OSError,))  # fmt: skip
    return came == "refused"


@pytest.mark.slow
@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("size", [300, 1_500, 4_000, 8_000, 20_000])
def test_checkpoints_before_it_are_whole_and_continued(ledger, tmp_path, history, size):
    """One file is larger than there is room for; with more room the run ends where it would have."""
    earlier_adapter(tmp_path)
    assert apart(train, tmp_path / "whole", history) == 0
    expected = torch.load(tmp_path / "whole" / "final.pt")
    folder = tmp_path / "full"
    stopped_for_want_of_room(ledger, folder, history, size)
    goes_on(ledger, folder, history, size, expected)


@pytest.mark.slow
@pytest.mark.parametrize("history", HISTORIES)
def test_a_disk_that_fills_up_while_checkpoints_are_written(ledger, tmp_path, history):
    """At any of several sizes of the whole disk; then it is made larger, and the run resumed."""
    earlier_adapter(tmp_path)
    assert apart(train, tmp_path / "whole", history) == 0
    expected = torch.load(tmp_path / "whole" / "final.pt")
    shutil.copytree(tmp_path / "earlier", tmp_path / "disks" / "earlier")
    stopped = 0
    for size in range(24 << 10, 240 << 10, 36 << 10):
        with small_disk(tmp_path / "disks" / str(size), size) as disk:
            shutil.copytree(tmp_path / "earlier", disk.parent / "earlier", dirs_exist_ok=True)
            stopped += stopped_for_want_of_room(ledger, disk, history, None)
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            goes_on(ledger, disk, history, size, expected)
    assert stopped > 1


def goes_on(ledger: Any, folder: Path, history: str, size: int, expected: dict[str, torch.Tensor]) -> None:
    newest = newest_whole_checkpoint(folder) if folder.is_dir() else None
    assert newest is None or int(newest.name.split("-")[1]) <= 6
    ledger.trial("resumed after a full disk", (history, size), lambda: resumed(folder, history),
                 lambda found: all(torch.equal(found[name], expected[name]) for name in expected))  # fmt: skip
    assert os.path.exists(folder / "final.pt")
