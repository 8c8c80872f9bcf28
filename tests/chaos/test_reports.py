"""Reports whose files are damaged, partial, or say what cannot be: named and left out, and the others are shown."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sstoken_plugins import SSTokenConfig, TokenSelector
from sstoken_plugins.errors import printable
from sstoken_report.callback import write
from sstoken_report.folder import parquet_path
from sstoken_report.index import rebuild
from sstoken_report.page import render
from sstoken_report.table import ABOUT, CHECKSUM, Report, checksum

from .damage import damaged, some, wrong_entries
from .process import apart
from .test_disk import small_files
from .test_kill import on_operation
from .training import make

ALSO = (ValueError,)


def made(step: int = 0, seed: int = 0) -> Report:
    """Three samples of random numbers, as a report of `sstoken` has them."""
    rng = np.random.default_rng(seed)
    sample = np.repeat(np.arange(3, dtype=np.int32), 9)
    n = len(sample)
    position = np.tile(np.arange(9, dtype=np.int32), 3)
    response = position >= 3

    def numbers() -> np.ndarray:
        return np.where(response, rng.random(n), np.nan).astype(np.float32)

    kept = response & (rng.random(n) < 0.6)
    columns = {
        "sample": sample,
        "row": sample + 5,
        "position": position,
        "token_id": rng.integers(0, 50, n, dtype=np.int32),
        "text": np.array([f"w{each}\x1b[31m" for each in rng.integers(0, 9, n)], dtype=object),
        "response": response,
        "score": numbers(),
        "eligible": response,
        "rank": np.where(response, 1 + position - 3, 0).astype(np.int32),
        "weight": np.where(response, kept, np.nan).astype(np.float32),
        "rel": numbers(),
        "attention": numbers(),
    }
    part = {"value": 0.6, "least": 0.01, "most": 1.0, "movable": True, "help": "How many."}
    about = {
        "version": "9.0.0",
        "step": step,
        "config": {"strategy": "sstoken", "rho": 0.6, "gamma": 0.5},
        "summary": "sstoken, rho 0.6",
        "columns": {name: {"label": name, "explained": "It says so."} for name in ("rel", "attention")},
        "controls": {
            "top": {"option": "rho", **part},
            "blend": {"option": "gamma", **part, "scaled": "rel", "plain": "attention"},
        },
        "model": "tiny",
        "notes": ["One."],
    }
    return Report(columns, about)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run's reports of the steps 0 and 2. Drawing their curves takes the longest, so it is done once."""
    folder = tmp_path_factory.mktemp("whole")
    for step in (0, 2):
        write(made(step, step), folder)
    return folder


def forged(path: Path, columns: dict[str, Any], about: bytes) -> None:
    """A report whose checksum is right, whatever it says."""
    arrays = [pa.array(values, from_pandas=True) for values in columns.values()]
    table = pa.Table.from_arrays(arrays, names=list(columns))
    plain = {name: np.asarray(values) for name, values in columns.items()}
    pq.write_table(table.replace_schema_metadata({ABOUT: about, CHECKSUM: checksum(plain, about)}), path)


def shown(path: Path, index: bool = False) -> Report:
    """Reads it, and makes all that is made of it: the page, and the index if asked for, which takes longer."""
    report = Report.read_parquet(path)
    render(report)
    with open(os.devnull, "wb") as stream:
        report.write_json(stream)
    if index:
        folder = path.parent / "again"
        shutil.rmtree(folder, ignore_errors=True)
        write(report, folder)
        assert rebuild(folder) == [report.step]
    return report


def same(one: Report, other: Report) -> bool:
    return one.about == other.about and one.columns.keys() == other.columns.keys() and all(
        np.array_equal(values, other.columns[name], equal_nan=values.dtype == np.float32)
        for name, values in one.columns.items()
    )  # fmt: skip


@pytest.mark.parametrize("n", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_any_damage_of_a_report(ledger, tmp_path, n):
    report, path, rng = made(), tmp_path / "step-000000.parquet", random.Random(0)
    report.write_parquet(path)
    content = path.read_bytes()
    for _ in range(n):
        how, wrong = damaged(content, rng)
        path.write_bytes(wrong)
        ledger.trial("damaged report", how, lambda: Report.read_parquet(path), lambda found: same(found, report),
                     names=str(path), also=ALSO)  # fmt: skip


@pytest.mark.parametrize("n", [25, pytest.param(400, marks=pytest.mark.slow)])
def test_heads_with_wrong_entries(ledger, tmp_path, n):
    """With a checksum that fits, so that each is what somebody's version or plugin might have written."""
    report, path = made(), tmp_path / "step-000000.parquet"
    head = json.dumps(report.about).encode()
    for how, wrong in wrong_entries(head, random.Random(2), n):
        forged(path, report.columns, wrong)
        about = json.loads(wrong)
        ledger.trial("damaged report", how, lambda: shown(path, index=n > 100),
                     lambda found, about=about: found.about == about, names=str(path), also=ALSO)  # fmt: skip


def without(name: str) -> Any:
    return lambda columns: {key: values for key, values in columns.items() if key != name}


def changed(name: str, how: Any) -> Any:
    return lambda columns: {**columns, name: how(columns[name])}


COLUMNS = {
    "no rows": lambda columns: {name: values[:0] for name, values in columns.items()},
    "no text": without("text"),
    "no weight": without("weight"),
    "no measurement": without("rel"),
    "text a number": changed("text", lambda values: np.arange(len(values))),
    "a text missing": changed("text", lambda values: np.array([None, *values[1:]], dtype=object)),
    "response numbers": changed("response", lambda values: values.astype(np.int32)),
    "weight text": changed("weight", lambda values: values.astype(str).astype(object)),
    "weight infinite": changed("weight", lambda values: values + np.float32(np.inf)),
    "score lists": changed("score", lambda values: [[1.0]] * len(values)),
    "samples backwards": changed("sample", lambda values: values[::-1]),
    "sample negative": changed("sample", lambda values: values - np.int32(1)),
    "sample far": changed("sample", lambda values: values + np.int32(10**6)),
    "ranks too high": changed("rank", lambda values: values + np.int32(10**6)),
    "no response": changed("response", lambda values: values & False),
    "row wide": changed("row", lambda values: values.astype(np.int64) + 2**40),
    "an escape": lambda columns: {**columns, "\x1b[31m": columns["rel"]},
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_that_cannot_be(ledger, tmp_path, case):
    report, path = made(), tmp_path / "step-000000.parquet"
    columns = COLUMNS[case](report.columns)
    forged(path, columns, json.dumps(report.about).encode())
    ledger.trial("damaged report", case, lambda: shown(path), lambda found: found.columns.keys() == columns.keys(),
                 names=str(path), also=ALSO)  # fmt: skip


def test_two_columns_of_one_name(ledger, tmp_path):
    report, path = made(), tmp_path / "step-000000.parquet"
    arrays = [pa.array(values, from_pandas=True) for values in report.columns.values()]
    table = pa.Table.from_arrays([*arrays, arrays[-1]], names=[*report.columns, "rel"])
    pq.write_table(table.replace_schema_metadata({ABOUT: json.dumps(report.about).encode()}), path)
    ledger.trial("damaged report", "twice", lambda: shown(path), lambda found: False, names=str(path), also=ALSO)


@pytest.mark.parametrize("head", [b"[" * 100_000, b"\xff\xfe", b"", b"1" + b"0" * 5000, b"NaN"])
def test_heads_that_are_none(ledger, tmp_path, head):
    path = tmp_path / "step-000000.parquet"
    forged(path, made().columns, head)
    ledger.trial("damaged report", head[:20], lambda: shown(path), lambda found: False, names=str(path), also=ALSO)


BESIDE = {
    "a half one": lambda path: path.write_bytes(path.with_name("step-000000.parquet").read_bytes()[:500]),
    "an empty one": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to(path.with_name("gone")),
    "a link to a device": lambda path: path.symlink_to("/dev/null"),
    "an unfinished one": lambda path: path.with_name(f".{path.name}.{'0' * 16}").write_bytes(b"half"),
    "a far number": lambda path: path.with_name(f"step-{'9' * 40}.parquet").write_bytes(b"half"),
    "an escape in a name": lambda path: path.with_name("step-1\x1b[31m.parquet").write_bytes(b"half"),
}


@pytest.mark.parametrize("case", some(BESIDE, "a half one", "an escape in a name"))
def test_what_lies_beside_whole_reports(ledger, tmp_path, whole, caplog, case):
    folder = Path(shutil.copytree(whole, tmp_path / "reports"))
    expected = (folder / "index.html").read_text("utf-8")
    BESIDE[case](parquet_path(folder, 1))
    ledger.trial("folder of reports", case, lambda: rebuild(folder),
                 lambda steps: steps == [0, 2] and (folder / "index.html").read_text("utf-8") == expected)  # fmt: skip
    assert printable(caplog.text) == caplog.text


def write_and_die(folder: Path, at: int) -> None:
    on_operation(folder, lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == at else None)
    write(made(3, 3), folder)


@pytest.mark.parametrize("places", [(3,), pytest.param(range(1, 20), marks=pytest.mark.slow)])
def test_killed_while_it_writes(ledger, tmp_path, whole, places):
    """Whatever is there afterwards is whole, and the report that was written before is shown."""
    for place in places:
        folder = Path(shutil.copytree(whole, tmp_path / str(place)))
        came = apart(write_and_die, folder, place)
        if came == 0:
            break  # fewer operations than that
        assert came == -signal.SIGKILL
        ledger.trial("kill while a report is written", place, lambda folder=folder: rebuild(folder),
                     lambda steps, folder=folder: steps in ([0, 2], [0, 2, 3]) and all(
                         same(Report.read_parquet(parquet_path(folder, step)), made(step, step)) for step in steps)
                     )  # fmt: skip


@pytest.mark.parametrize("size", [2_000, *(pytest.param(size, marks=pytest.mark.slow)
                                           for size in (0, 100, 6_000, 20_000))])  # fmt: skip
def test_no_room_for_a_report(ledger, tmp_path, whole, size):
    """An `OSError`, which the training survives; nothing half written stays."""
    folder = Path(shutil.copytree(whole, tmp_path / "reports"))
    with small_files(size):
        came = ledger.trial("full disk", ("report", size), lambda: write(made(3, 3), folder), lambda found: False,
                            also=(OSError,))  # fmt: skip
    assert came == "refused"
    assert not list(folder.glob(".*"))
    assert rebuild(folder)[:2] == [0, 2]
    for path in folder.glob("step-*.parquet"):
        Report.read_parquet(path)


def test_a_trainer_that_cannot_show_tokens(ledger, tmp_path):
    trainer = make(tmp_path / "run", "base", selects=False)
    selector = TokenSelector(SSTokenConfig(report_steps=1))
    ledger.trial("another run", "reports without a tokenizer", lambda: trainer.enable_token_selection(selector),
                 lambda found: False, names=("`report_steps`", "processing_class"))  # fmt: skip
