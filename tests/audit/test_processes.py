"""Two processes score a data set together, and find what one finds."""

from __future__ import annotations

import json
import sys

import pyarrow.parquet as pq
import pytest

from sstoken_audit.command import main
from sstoken_audit.rows import CHUNK

from .. import processes
from .conftest import pairs, rows


@pytest.mark.slow
def test_two_processes_write_the_table_of_one(model_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(pairs(CHUNK + 60, seed=8))))
    command = ["audit", str(data), "--model", str(model_dir), "--skip", "language", "--fail-above", "0"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "sstoken_plugins"]
    together = ["--out", str(tmp_path / "two"), "--clean", str(tmp_path / "clean.jsonl")]
    status, printed = processes.run(sys.executable, *torchrun, *command[:-2], *together, CUDA_VISIBLE_DEVICES="")
    assert status == 0, printed
    assert printed.count("rows look suspicious") == 1
    main([*command[1:], "--out", str(tmp_path / "one")])
    one, two = (pq.read_table(tmp_path / name / "scores.parquet") for name in ("one", "two"))
    assert one.equals(two)
    assert sum(1 for _ in (tmp_path / "two" / "cache").rglob("chunk-*.parquet")) == 2
    assert (tmp_path / "clean.jsonl").read_text().count("\n") == sum(not each for each in two["flagged"].to_pylist())
