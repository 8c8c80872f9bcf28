"""The benchmark runs as its own text says, on a tiny model; what it measures there is noise."""

from __future__ import annotations

import json

import pytest

from .conftest import run

pytest.importorskip("trl")


def test_every_contender_is_measured(tmp_path):
    output = run(
        "recipes/benchmarks/run.py", "--size", "tiny", "--lengths", "32", "64", "--vocabularies", "256",
        "--rounds", "1", "--threads", "1", "--output", str(tmp_path),
    )  # fmt: skip
    assert "time / plain" in output
    content = json.loads((tmp_path / "results.json").read_text())
    assert {"device", "versions", "date"} <= content.keys()
    assert [row["tokens"] for row in content["results"]] == [32, 64]
    for row in content["results"]:
        assert set(row["contenders"]) == {
            "plain", "recorded", "last_visit", "base", "snapshot", "framework_loss", "naive", "bare",
        }  # fmt: skip
        assert row["contenders"]["plain"]["time_ratio"] == row["contenders"]["plain"]["memory_ratio"] == 1
        assert all(values["seconds"] > 0 < values["peak_mb"] for values in row["contenders"].values())
