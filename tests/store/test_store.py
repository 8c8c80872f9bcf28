"""What was stored comes back, to whom it belongs, or an error does."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sstoken_plugins import BatchIndex
from sstoken_plugins.store import DiskStore, MemoryStore, StoreError, resolution
from sstoken_plugins.store.codec import SMALLEST_LOG_PROB, block_sizes, decode, encode

from .. import processes

MADE_BY = {"model": "m", "adapter": None, "tokenizer": "t", "precision": "float32, autocast no"}


def documents(n: int, seed: int = 0) -> list[tuple[list[int], list[int], list[float]]]:
    """Token ids, labels and log-probabilities of some documents."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(n):
        prompt, response = torch.randint(1, 30, (2,), generator=generator).tolist()
        ids = torch.randint(0, 5000, (prompt + response,), generator=generator)
        log_probs = -(torch.rand(response, generator=generator) ** 3) * 30
        made.append((ids.tolist(), [-100] * prompt + ids[prompt:].tolist(), [0.0] * prompt + log_probs.tolist()))
    return made


def padded(rows, side: str = "right") -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    longest = max(len(ids) for ids, _, _ in rows)

    def pad(values, value):
        empty = [value] * (longest - len(values))
        return empty + values if side == "left" else values + empty

    batch = {
        "input_ids": torch.tensor([pad(ids, 0) for ids, _, _ in rows]),
        "labels": torch.tensor([pad(labels, -100) for _, labels, _ in rows]),
        "attention_mask": torch.tensor([pad([1] * len(ids), 0) for ids, _, _ in rows]),
    }
    return batch, torch.tensor([pad(values, 0.0) for _, _, values in rows])


def packed(rows) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    batch = {
        "input_ids": torch.tensor([[token for ids, _, _ in rows for token in ids]]),
        "labels": torch.tensor([[label for _, labels, _ in rows for label in labels]]),
        "position_ids": torch.tensor([[place for ids, _, _ in rows for place in range(len(ids))]]),
    }
    return batch, torch.tensor([[value for _, _, values in rows for value in values]])


def fill(store, rows) -> None:
    batch, log_probs = padded(rows)
    index = BatchIndex.of(batch)
    put = store.put if isinstance(store, MemoryStore) else store.add
    put(index.keys, index.lengths, index.gather(log_probs))


def made(folder: Path, rows, made_by=MADE_BY) -> DiskStore:
    store = DiskStore(folder)
    if not store.exists:
        store.create(made_by)
    fill(store, rows)
    store.flush()
    return store


def in_memory(tmp_path, rows) -> MemoryStore:
    store = MemoryStore()
    fill(store, rows)
    return store


def on_disk(tmp_path, rows) -> DiskStore:
    made(tmp_path / "store", rows[: len(rows) // 2])
    made(tmp_path / "store", rows[len(rows) // 2 :])  # another writer, later
    return DiskStore(tmp_path / "store")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-80, 0, width=32), min_size=1, max_size=9), min_size=1, max_size=8))
@example([[-49.922664642333984]])
def test_values_come_back_to_the_resolution(values):
    lengths = torch.tensor([len(document) for document in values])
    log_probs = torch.tensor([value for document in values for value in document])
    blocks = encode(log_probs, lengths)
    sizes = block_sizes(lengths)
    assert len(blocks) == sizes.sum()
    starts = sizes.cumsum(0) - sizes
    order = torch.arange(len(values) - 1, -1, -1)  # read in another order than written
    back = decode(blocks, starts[order], lengths[order])
    expected = torch.cat(list(reversed(log_probs.split(lengths.tolist())))).clamp(min=SMALLEST_LOG_PROB)
    assert ((back - expected).abs() <= resolution(expected) * 0.51 + 1e-6).all()


@pytest.mark.parametrize("make", [in_memory, on_disk])
def test_documents_are_known_by_their_content(make, tmp_path):
    """In any order, any batch, padded on either side, packed, and with others among them."""
    rows = documents(40)
    store = make(tmp_path, rows)
    shuffled = rows[::-3] + rows[5:9]
    stranger = documents(3, seed=9)
    for batch, log_probs in (
        padded(shuffled),
        padded(shuffled, "left"),
        packed(shuffled),
        packed(stranger + shuffled),
    ):
        index = BatchIndex.of(batch)
        values, n_missing = store.get(index)
        expected = index.gather(log_probs)
        missing = values.isnan()
        assert n_missing == (3 if missing.any() else 0)
        unknown = sum(label != -100 for _, labels, _ in stranger for label in labels)
        assert missing.sum() == (unknown if n_missing else 0)
        difference = (values - expected)[~missing].abs()
        assert (difference <= resolution(expected[~missing]) * 0.51 + 1e-6).all()


@pytest.mark.parametrize("make", [in_memory, on_disk])
def test_another_document_is_another(make, tmp_path):
    """One token, or what is prompt and what is response, makes the difference."""
    (ids, labels, values), *_ = rows = documents(4)
    store = make(tmp_path, rows)
    other_prompt = [ids[0] + 1, *ids[1:]]
    first = next(place for place, label in enumerate(labels) if label != -100)
    longer_response = [*labels[: first - 1], ids[first - 1], *labels[first:]] if first > 1 else [-100, *labels[1:]]
    swapped = [*ids[:-2], ids[-1], ids[-2]]
    for other in (
        (other_prompt, labels, values),
        (ids, longer_response, values),
        (swapped, [*labels[:-2], *swapped[-2:]], values),
        (ids[:-1], labels[:-1], values[:-1]),
        ([*ids, 7], [*labels, -100], [*values, 0.0]),
    ):
        assert store.get(BatchIndex.of(padded([other])[0]))[1] == 1


def test_memory_keeps_the_latest(tmp_path):
    rows = documents(10)
    store = in_memory(tmp_path, rows)
    fill(store, [(ids, labels, [-1.0] * len(ids)) for ids, labels, _ in rows[:5]])
    batch, log_probs = padded(rows)
    index = BatchIndex.of(batch)
    restored = MemoryStore()
    restored.load_state_dict(store.state_dict())
    assert len(store) == len(restored) == 10
    for either in (store, restored):
        values, _ = either.get(index)
        n_first = int(index.lengths[:5].sum())
        torch.testing.assert_close(values[:n_first], torch.full((n_first,), -1.0))
        torch.testing.assert_close(values[n_first:], index.gather(log_probs)[n_first:], rtol=1e-3, atol=1e-4)
    assert all(
        torch.equal(a, b) for a, b in zip(store.state_dict().values(), restored.state_dict().values(), strict=True)
    )


def test_others_may_read_it(tmp_path):
    """As they may read any file made here."""
    made(tmp_path / "store", documents(3))
    (tmp_path / "any").touch()
    for path in (tmp_path / "store").iterdir():
        assert path.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_size_on_disk(tmp_path):
    """At most 2.5 bytes a response token, with all that is around them; responses of about 100 tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(40, 160, (2000,), generator=generator)
    store = DiskStore(tmp_path / "store")
    store.create(MADE_BY)
    store.add(torch.randint(-(2**62), 2**62, (2000,), generator=generator), lengths, -torch.rand(int(lengths.sum())))
    store.flush()
    size = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    assert size / int(lengths.sum()) <= 2.5


def test_workers_get_the_place_not_the_content(tmp_path):
    store = on_disk(tmp_path, rows := documents(20))
    content = pickle.dumps(store)
    assert len(content) < 1000
    index = BatchIndex.of(padded(rows)[0])
    assert torch.equal(pickle.loads(content).get(index)[0], store.get(index)[0])


# Faults


def one_file(store: Path) -> Path:
    return sorted(store.glob("*.safetensors"))[0]


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0b100
    path.write_bytes(content)


def edit_manifest(store: Path, **changes) -> None:
    content = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**content, **changes}))


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
