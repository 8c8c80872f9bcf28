"""Weights that come with the data, in a column or a file, and are none."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from sstoken_plugins import SSTokenConfig
from sstoken_plugins.errors import printable
from sstoken_transformers.weights import data_weights

from .damage import damaged

IDS, LABELS = [3, 4, 5, 6, 7], [-100, -100, 5, 6, 7]
SAMPLE = {"input_ids": torch.tensor([IDS]), "labels": torch.tensor([LABELS])}


def read(rows: list[dict[str, Any]], path: Path | None = None) -> list[float]:
    """The weights of the only sample."""
    config = SSTokenConfig(weights="w") if path is None else SSTokenConfig(weights_file=str(path))
    batch = dict(SAMPLE)
    data_weights(config, rows, [SAMPLE], len(rows))(batch)
    return [float(each) for each in batch["sstoken_weights"][0][2:]]


FINE: dict[str, tuple[Any, list[float]]] = {
    "nothing": (None, [1, 1, 1]),
    "a number": (2, [2, 2, 2]),
    "a flag": (False, [0, 0, 0]),
    "below": (-1.5, [-1.5] * 3),
    "one for the turn": ([3], [3, 3, 3]),
    "one for each token": ([1, 0, 2], [1, 0, 2]),
    "tiny": (1e-50, [0, 0, 0]),
}
WRONG: tuple[Any, ...] = (
    math.nan, math.inf, -math.inf, 1e39, 1e30, 10**400, [10**400] * 3, "x", "1", b"x", b"xyz", 1j, [], [1, 2], [None],
    ["x"], [[1, 2, 3]], [[1], [2], [3]], {}, {"a": 1}, {1: 2}, ..., "\x1b[31m", "x" * 10_000,
)  # fmt: skip


@pytest.mark.parametrize("case", FINE)
def test_a_column_of_weights(ledger, case):
    value, expected = FINE[case]
    came = ledger.trial("weights of the data", case, lambda: read([{"w": value}]), lambda found: found == expected)
    assert came == "survived"


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:20])
def test_a_column_of_something_else(ledger, value):
    ledger.trial("weights of the data", repr(value)[:60], lambda: read([{"w": value}]), lambda found: False,
                 names="Row 0")  # fmt: skip


ROWS: dict[str, Any] = {
    "another column": {"\x1b[31m": 1}, "no column": {}, "chat None": {"messages": [None]},
    "chat of texts": {"messages": ["a"]}, "chat of lists": {"messages": [[]]},
    "roles None": {"messages": [{"role": None, "w": 1}]}, "roles missing": {"messages": [{"w": 1}]},
    "weight text": {"messages": [{"role": "assistant", "w": "x"}]},
    "weight a list": {"messages": [{"role": "assistant", "w": [1, 2, 3]}]},
}  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_rows_without(ledger, case):
    ledger.trial("weights of the data", case, lambda: read([ROWS[case]]), lambda found: False, names="ow 0")


LINES = (
    "", "null", "true", '"x"', "[", "{}", '{"weight": null}', '{"weight": "x"}', '{"weight": {}}', "[[1], [2], [3]]",
    "[" * 100_000, "1e400", "NaN", "Infinity", "1" + "0" * 400, "1" + "0" * 5000, "\ufeff1", '{"weight": [1, 2]}',
    "[null]", '{"weight": true}', "1 2", "1\n2", "\0", "1e5",
)  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=lambda line: repr(line)[:20])
def test_a_file_with_other_lines(ledger, tmp_path, line):
    path = tmp_path / "weights.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    ledger.trial("weights of the data", line[:60], lambda: read([{}], path), lambda found: False)


def test_characters_that_end_lines_elsewhere(ledger, tmp_path):
    """JSON may hold them; in a text file of Python's they would begin another line."""
    path = tmp_path / "weights.jsonl"
    path.write_text(json.dumps({"weight": 2, "note": "a\u2028b\x85c"}, ensure_ascii=False) + "\r\n", encoding="utf-8")
    came = ledger.trial("weights of the data", "line ends", lambda: read([{}], path), lambda found: found == [2, 2, 2])
    assert came == "survived"


@pytest.mark.parametrize("case", ["a folder", "nothing", "bytes", "empty"])
def test_what_is_no_file_of_weights(ledger, tmp_path, case):
    path = tmp_path / "weights\x1b[31m.jsonl"
    if case == "a folder":
        path.mkdir()
    elif case != "nothing":
        path.write_bytes(b"\xff\xfe" if case == "bytes" else b"")
    ledger.trial("weights of the data", case, lambda: read([{}], path), lambda found: False,
                 names=printable(str(path)))  # fmt: skip


@pytest.mark.parametrize("n", [30, pytest.param(400, marks=pytest.mark.slow)])
def test_any_damage_of_the_file(ledger, tmp_path, n):
    """It has no checksum: what still is a weight for each row is taken as Python's own JSON reads it."""
    path, rng = tmp_path / "weights.jsonl", random.Random(0)
    content = b'{"weights": [1.0, 0.25, 2.0], "of": "row 0"}\n'
    for _ in range(n):
        how, wrong = damaged(content, rng)
        path.write_bytes(wrong)
        ledger.trial("weights of the data", (how, wrong[:80]), lambda: read([{}], path),
                     lambda found, wrong=wrong: found == as_read(wrong))  # fmt: skip


def as_read(content: bytes) -> list[float]:
    value = json.loads(content)
    value = value.get("weights", value.get("weight")) if isinstance(value, dict) else value
    numbers = value if isinstance(value, list) else [value]
    return torch.tensor(numbers * (3 // len(numbers)), dtype=torch.float32).tolist()
