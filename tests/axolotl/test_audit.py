"""`sstoken audit --config axolotl.yaml` scores what Axolotl would train on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

pytest.importorskip("datasketch")
pytest.importorskip("jinja2")

from axolotl.integrations.base import PluginManager
from transformers import AutoModelForCausalLM

from sstoken_audit.command import main
from sstoken_axolotl.compat import load_cfg, load_datasets
from sstoken_axolotl.inspection import recording
from sstoken_axolotl.names import PLUGIN
from sstoken_axolotl.settings import leaving_no_trace
from sstoken_plugins.store import DiskStore

from .conftest import write


@pytest.fixture
def config(settings, chats, tmp_path) -> Path:
    """With a row that is there twice."""
    rows = [json.loads(line) for line in chats.read_text().splitlines()]
    rows[5]["messages"] = rows[3]["messages"]
    path = write(tmp_path / "rows.jsonl", rows)
    settings["datasets"][0]["path"] = str(path)
    settings |= {"sample_packing": True, "dataset_exact_deduplication": False}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    manager = PluginManager.get_instance()
    manager.plugins.clear()
    manager.cfg = None
    return tmp_path / "run.yaml"


def test_the_rows_and_their_losses_are_those_of_the_training(config, model_dir, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["axolotl"])
    assert main(["--config", str(config), "--skip", "language", "--clean", str(config.with_name("clean.jsonl"))]) == 0
    assert not (config.parent / "out").exists()  # the training's own folder is left alone
    table = pq.read_table(config.with_name("run-audit") / "scores.parquet")
    with leaving_no_trace():
        prepared = load_datasets(load_cfg(config)).train_dataset
    assert table.num_rows == len(prepared) == 24
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    for number, loss in enumerate(table["loss"].to_pylist()):
        ids, labels = (torch.tensor([prepared[number][name]]) for name in ("input_ids", "labels"))
        with torch.no_grad():
            assert loss == pytest.approx(float(model(input_ids=ids, labels=labels).loss), abs=1e-4)
    assert sum(table["flag_duplicate_answer"].to_pylist()) >= 1
    assert not any(table["flag_role_marks"].to_pylist())  # those of the template are where they belong
    kept = [json.loads(line) for line in config.with_name("clean.jsonl").read_text().splitlines()]
    flagged = np.array(table["flagged"].to_pylist())
    assert [row["labels"] for row in kept] == [prepared[int(i)]["labels"] for i in np.flatnonzero(~flagged)]
    about = json.loads((config.with_name("run-audit") / "sstoken-audit.json").read_text())
    assert about["model"] == str(model_dir)


@pytest.mark.slow
def test_the_training_has_nothing_left_to_record(config, monkeypatch):
    monkeypatch.setattr("sys.argv", ["axolotl"])
    assert main(["--config", str(config), "--skip", "language"]) == 0
    store = config.with_name("run-audit") / "history"
    n_known = len(DiskStore(store))
    assert n_known == 23  # one row is there twice
    settings = yaml.safe_load(config.read_text())
    settings |= {"plugins": [PLUGIN], "sstoken": {"history": "recorded", "history_store": str(store)}}
    config.write_text(yaml.safe_dump(settings))
    assert recording(config, []) == 0
    assert len(DiskStore(store)) == n_known


def test_a_yaml_that_axolotl_refuses_is_named(config, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["axolotl"])
    settings = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**settings, "micro_batch_size": "many"}))
    assert main(["--config", str(config)]) == 2
    assert f"sstoken audit: --config {config}: " in capsys.readouterr().err
