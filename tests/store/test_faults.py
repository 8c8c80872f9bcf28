"""Damage, other makers, kills and full disks: an error that names the way out, and nothing lost."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sstoken_plugins import BatchIndex
from sstoken_plugins.store import DiskStore, StoreError

from .. import processes
from .stores import MADE_BY, documents, edit_manifest, fill, flip, made, one_file, padded


def renamed_by_content(store: Path, **tensors) -> None:
    """A file whose checksum is right and whose content is not."""
    import hashlib

    from safetensors import safe_open

    path = one_file(store)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({**load_file(path), **tensors}, path, metadata)
    path.rename(path.with_name(hashlib.sha256(path.read_bytes()).hexdigest() + ".safetensors"))


def swapped_files(store: Path) -> None:
    a, b = sorted(store.glob("*.safetensors"))
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)


def foreign_file(store: Path) -> None:
    other = store.with_name("other")
    made(other, documents(5, seed=4), {**MADE_BY, "model": "another"})
    shutil.copy(one_file(other), store)


DAMAGE = {
    "file cut short": lambda store: one_file(store).write_bytes(one_file(store).read_bytes()[:-7]),
    "file cut to its head": lambda store: one_file(store).write_bytes(one_file(store).read_bytes()[:50]),
    "file empty": lambda store: one_file(store).write_bytes(b""),
    "file with more at its end": lambda store: one_file(store).write_bytes(one_file(store).read_bytes() + b"\0" * 8),
    "bit flipped in the length": lambda store: flip(one_file(store), 0),
    "bit flipped in the head": lambda store: flip(one_file(store), 0.03),
    "bit flipped in the middle": lambda store: flip(one_file(store), 0.5),
    "bit flipped at the end": lambda store: flip(one_file(store), 1),
    "file renamed": lambda store: one_file(store).rename(store / ("0" * 64 + ".safetensors")),
    "files swapped": swapped_files,
    "a folder in a file's place": lambda store: (store / ("1" * 64 + ".safetensors")).mkdir(),
    "a dangling link": lambda store: (store / ("2" * 64 + ".safetensors")).symlink_to(store / "gone"),
    "a pickle in a file's place": lambda store: torch.save({"keys": torch.ones(2)}, one_file(store)),
    "another model's file": foreign_file,
    "documents missing": lambda store: renamed_by_content(store, keys=torch.ones(1, dtype=torch.int64)),
    "lengths wrong": lambda store: renamed_by_content(
        store, lengths=load_file(one_file(store))["lengths"] + 1
    ),
    "lengths negative": lambda store: renamed_by_content(
        store, lengths=-load_file(one_file(store))["lengths"]
    ),
    "head lost": lambda store: (store / "store.json").unlink(),
    "head empty": lambda store: (store / "store.json").write_text(""),
    "head cut short": lambda store: (store / "store.json").write_text((store / "store.json").read_text()[:-20]),
    "head no mapping": lambda store: (store / "store.json").write_text("[1, 2]"),
    "head of a future format": lambda store: edit_manifest(store, format=3),
    "head of the first format": lambda store: edit_manifest(store, format=1),
    "head edited": lambda store: edit_manifest(store, made_by={**MADE_BY, "model": "mine"}),
    "bit flipped in the head file": lambda store: flip(store / "store.json", 0.4),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused(tmp_path, damage):
    folder = tmp_path / "store"
    made(folder, documents(10))
    made(folder, documents(10, seed=1))
    DiskStore(folder)
    DAMAGE[damage](folder)
    before = {path: path.lstat().st_mtime_ns for path in folder.iterdir()}
    way_out = r"record again|into another folder|cannot be read|take it out|does not exist"
    with pytest.raises(StoreError, match=way_out) as refusal:
        DiskStore(folder)
    assert str(folder) in str(refusal.value)
    assert {path: path.lstat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_store_of_the_first_format_is_refused_with_the_reason(tmp_path):
    """Its samples have other keys: it would look empty."""
    made(tmp_path, documents(3))
    edit_manifest(tmp_path, format=1)
    with pytest.raises(StoreError, match=r"format 1, .*known by other keys now, .*Record into another folder"):
        DiskStore(tmp_path)


@pytest.mark.parametrize("name", MADE_BY)
def test_another_maker_is_refused(tmp_path, name):
    store = made(tmp_path / "store", documents(3))
    store.require(MADE_BY)
    with pytest.raises(StoreError, match=f"was made with another {name}: .* Record into another folder"):
        store.require({**MADE_BY, name: "other"})
    with pytest.raises(StoreError, match="was made with another"):
        DiskStore(tmp_path / "store").create({**MADE_BY, name: "other"})


def test_what_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        StoreError, match=r"'notes.txt': it is not a history store, .*Give a folder that does not exist yet"
    ):
        DiskStore(tmp_path)
    with pytest.raises(StoreError, match="is a file, not the folder of a store"):
        DiskStore(tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_deleting_a_damaged_file_is_the_way_out(tmp_path):
    """The message says so; what was in the other files stays."""
    folder = tmp_path / "store"
    rows = documents(20)
    made(folder, rows[:10])
    made(folder, rows[10:])
    flip(one_file(folder), 0.5)
    one_file(folder).unlink()
    store = DiskStore(folder)
    assert len(store) == 10
    index = BatchIndex.of(padded(rows)[0])
    lacking = store.lacks(index)
    assert lacking.sum() == 10
    fill(store, [row for row, new in zip(rows, lacking.tolist(), strict=True) if new])
    store.flush()
    assert DiskStore(folder).get(index)[1] == 0


def record_slowly(folder: Path, rows, pause: float) -> None:
    store = DiskStore(folder)
    if not store.exists:
        store.create(MADE_BY)
    for begin in range(0, len(rows), 5):
        index = BatchIndex.of(padded(rows[begin : begin + 5])[0])
        new = store.lacks(index).tolist()
        if any(new):
            fill(store, [row for row, lacks in zip(rows[begin : begin + 5], new, strict=True) if lacks])
        store.flush()
        time.sleep(pause)


def test_two_recorders_share_a_store(tmp_path):
    folder, rows = tmp_path / "store", documents(60)
    context = multiprocessing.get_context("fork")
    recorders = [context.Process(target=record_slowly, args=(folder, part, 0.01)) for part in (rows, rows[::-1])]
    for recorder in recorders:
        recorder.start()
    for recorder in recorders:
        processes.join(recorder, timeout=60)
    store = DiskStore(folder)
    assert len(store) == 60
    assert store.get(BatchIndex.of(padded(rows)[0]))[1] == 0


def test_a_file_system_without_links(tmp_path, monkeypatch):
    """Such as a cloud drive."""

    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    made(tmp_path / "store", documents(3))
    assert len(DiskStore(tmp_path / "store")) == 3
    with pytest.raises(StoreError, match="was made with another model"):
        DiskStore(tmp_path / "store").create({**MADE_BY, "model": "other"})


def test_a_killed_recorder_goes_on(tmp_path):
    folder, rows = tmp_path / "store", documents(200)
    context = multiprocessing.get_context("fork")
    for delay in (0.02, 0.05, 0.1, 0.15):
        recorder = context.Process(target=record_slowly, args=(folder, rows, 0.005))
        recorder.start()
        time.sleep(delay)
        os.kill(recorder.pid, signal.SIGKILL)
        recorder.join()
        if folder.exists():
            DiskStore(folder)  # sound, however far it came
    record_slowly(folder, rows, 0)
    assert DiskStore(folder).get(BatchIndex.of(padded(rows)[0]))[1] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("this machine does not let root mount a file system")
    try:
        rows = documents(2000)
        store = made(disk / "store", rows[:200])
        fill(store, rows[200:])
        with pytest.raises(OSError, match=r"the disk is full.*What was recorded before is safe: make room"):
            store.flush()
        assert len(DiskStore(disk / "store")) == 200
        assert not list((disk / "store").glob(".unfinished*"))
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        store.flush()  # what was not written yet is not lost either
        assert len(DiskStore(disk / "store")) == 2000
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
