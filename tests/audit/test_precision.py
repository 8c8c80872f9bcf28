"""4 bits and bfloat16 move scores a little, and what is found stays."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from sstoken_audit.command import main

from .conftest import pairs, rows


@pytest.fixture(scope="module")
def exact(model_dir, tmp_path_factory):
    """Data with exchanged answers, and what is found in float32."""
    folder = tmp_path_factory.mktemp("precision")
    made = rows(pairs(120, seed=21))
    for i in range(0, 24, 2):
        made[i]["answer"], made[i + 1]["answer"] = made[i + 1]["answer"], made[i]["answer"]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return folder / "data.jsonl", scores(folder / "data.jsonl", model_dir, folder / "exact")


def scores(data, model_dir, out, *flags):
    command = [str(data), "--model", str(model_dir), "--checks", "mismatch,outlier,known,truncated", "--out", str(out)]
    assert main([*command, *flags]) == 0
    return pq.read_table(out / "scores.parquet")


@pytest.mark.parametrize(
    ("flags", "nats"),
    [
        pytest.param(["--dtype", "bfloat16"], 0.1, marks=pytest.mark.slow),
        pytest.param(["--load-in-4bit"], 0.5, marks=pytest.mark.slow),
        (["--load_in_4bit", "--dtype", "bfloat16"], 0.5),
    ],
    ids=["bfloat16", "4 bits", "4 bits and bfloat16"],
)
def test_what_is_found_stays(flags, nats, exact, model_dir, tmp_path):
    if any("4" in flag for flag in flags):
        pytest.importorskip("bitsandbytes")
    data, before = exact
    after = scores(data, model_dir, tmp_path / "out", *flags)
    moved = np.abs(np.array(before["loss"]) - np.array(after["loss"]))
    assert 0 < np.median(moved) < nats
    flags_before, flags_after = (np.array(table["flag_mismatch"]) for table in (before, after))
    assert flags_before[:24].mean() > 0.9
    assert (flags_before != flags_after).mean() < 0.05
