"""The benchmark runs as its own text says, on a tiny model; what it measures there is noise."""

from __future__ import annotations

import json

import pytest

from .conftest import run

pytest.importorskip("trl")


def measured(folder, *options: str) -> list[dict]:
    output = run(
        "recipes/benchmarks/run.py", "--size", "tiny", "--vocabularies", "256", "--rounds", "1", "--threads", "1",
        "--output", str(folder), *options,
    )  # fmt: skip
    assert "ratios to plain" in output
    content = json.loads((folder / "results.json").read_text())
    assert {"device", "versions", "date"} <= content.keys()
    for row in content["results"]:
        assert row["contenders"]["plain"]["time_ratio"] == row["contenders"]["plain"]["memory_ratio"] == 1
        assert all(values["seconds"] > 0 < values["peak_mb"] for values in row["contenders"].values())
    return content["results"]


@pytest.mark.slow
def test_a_point_is_measured(tmp_path):
    (row,) = measured(tmp_path, "--lengths", "32", "--contenders", "recorded", "naive")
    assert list(row["contenders"]) == ["plain", "recorded", "naive"]


@pytest.mark.slow
def test_every_contender_is_measured_over_a_grid_and_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    rows = measured(tmp_path, "--lengths", "32", "64", "--precisions", "bfloat16", "4bit", "--plot")
    assert [(row["precision"], row["tokens"]) for row in rows] == [
        ("bfloat16", 32), ("bfloat16", 64), ("4bit", 32), ("4bit", 64),
    ]  # fmt: skip
    assert len(rows[0]["contenders"]) == 9
    assert (tmp_path / "results.svg").stat().st_size > 1000


@pytest.mark.slow
def test_all_weights_train_after_their_history_was_recorded(tmp_path):
    (row,) = measured(tmp_path, "--lora-r", "0", "--lengths", "32", "--precisions", "float32", "--contenders", "auto")
    assert (row["lora_r"], list(row["contenders"])) == (0, ["plain", "auto"])


@pytest.mark.slow
def test_recording_is_measured(tmp_path):
    path = tmp_path / "recording.json"
    run(
        "recipes/benchmarks/recording.py", "--size", "tiny", "--vocabulary", "256", "--length", "32", "--batches", "3",
        "--precision", "float32", "--threads", "1", "--output", str(path),
    )  # fmt: skip
    found = json.loads(path.read_text())
    assert found["batches"] == 3
    assert found["throughput_ratio"] > 0
