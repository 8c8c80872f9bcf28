"""`sstoken audit --config swift.yaml` scores what ms-swift would train on."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import yaml

pytest.importorskip("datasketch")

from sstoken_audit.command import main
from sstoken_plugins.store import DiskStore
from sstoken_swift.looking import record
from sstoken_transformers.framework import CommandLine

from .conftest import PLUGIN


def test_the_rows_are_those_of_the_training(settings, chats, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(settings))
    assert main(["--config", str(config), "--skip", "language"]) == 0
    table = pq.read_table(tmp_path / "run-audit" / "scores.parquet")
    assert table.num_rows == 24
    assert all(loss > 0 for loss in table["loss"].to_pylist())
    assert len(DiskStore(tmp_path / "run-audit" / "history")) == 24
    assert not (tmp_path / "out").exists()  # the training's own folder is left alone


def test_the_training_has_nothing_left_to_record(settings, tmp_path):
    config, store = tmp_path / "run.yaml", tmp_path / "run-audit" / "history"
    settings["ENV"] = {"SSTOKEN_HISTORY_STORE": str(store)}
    settings["external_plugins"] = [str(PLUGIN)]
    config.write_text(yaml.safe_dump(settings))
    assert main(["--config", str(config), "--skip", "language"]) == 0
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    record(CommandLine(config, ()))
    assert {path.name: path.read_bytes() for path in store.iterdir()} == before
