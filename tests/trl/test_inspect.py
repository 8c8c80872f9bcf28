"""`sstoken inspect`: users look at their data before training, and at a checkpoint afterwards."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

pytest.importorskip("pyarrow")
pytest.importorskip("jinja2")

from sstoken_plugins import hookimpl, registry
from sstoken_plugins.cli import main
from sstoken_report.table import Report


def inspect(tmp_path, *flags: object) -> Report:
    assert main(["inspect", "--out", str(tmp_path / "look"), "--use_cpu", "true", *map(str, flags)]) == 0
    return Report.read_parquet(tmp_path / "look" / "sstoken-inspect.parquet")


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_before_training(kind, model_dir, dataset, tmp_path, capsys):
    """A file, a model, and no adapter: the attention alone decides, and the user is told."""
    path = tmp_path / f"data.{kind}"
    {"jsonl": dataset.to_json, "parquet": dataset.to_parquet, "csv": dataset.to_csv}[kind](path)
    report = inspect(tmp_path, "--model", model_dir, "--data", path, "-n", 10, "--rho", 0.5, "--show", 2)
    assert report.n_samples == 10
    assert report.about["config"]["rho"] == 0.5
    assert not np.nan_to_num(report.columns["rel"]).any()
    shown = capsys.readouterr().out
    assert "REL is 0 everywhere" in " ".join(shown.split())
    assert "Sample 2:" in shown
    assert "Sample 3:" not in shown
    assert json.loads((tmp_path / "look" / "sstoken-inspect.json").read_text())["samples"]
    assert "<script" in (tmp_path / "look" / "sstoken-inspect.html").read_text()
    # Rows at equal distances, from the first on.
    first = next(iter(report.samples()))
    assert "".join(first["text"]).split()[0] == dataset[0]["prompt"].split()[0]


def test_conversations_and_plain_text(model_dir, conversations, dataset, tmp_path):
    conversations.to_json(tmp_path / "chats.jsonl")
    flags = ("--model", model_dir, "--data", tmp_path / "chats.jsonl", "--assistant_only_loss")
    report = inspect(tmp_path, *flags)
    assert report.n_samples == len(conversations)
    texts = dataset.map(lambda row: {"text": row["prompt"] + row["completion"]}, remove_columns=dataset.column_names)
    texts.to_json(tmp_path / "texts.jsonl")
    report = inspect(tmp_path, "--model", model_dir, "--data", tmp_path / "texts.jsonl", "--gamma", 1)
    assert report.n_samples == len(dataset)
    assert not report.knows("attention")


def test_a_checkpoint_shows_what_the_next_step_trains(settings, tmp_path):
    """The YAML of the training, and a checkpoint of it, which knows its history, its rho and its step."""
    from sstoken_trl.sft import make_parser, train

    settings |= {"sstoken": True, "sstoken_rho": 0.4, "sstoken_history": "snapshot", "sstoken_refresh_steps": 1}
    settings |= {"max_steps": 3, "save_steps": 2, "lora_dropout": 0.0, "learning_rate": 1e-2}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    selections = []

    class Spy:
        @hookimpl
        def observe(self, selection, record):
            selections.append(selection)

    spy = Spy()
    registry.plugin_manager().register(spy)
    try:
        train(*make_parser().parse_args_and_config(["--config", str(tmp_path / "run.yaml")]))
    finally:
        registry.plugin_manager().unregister(spy)

    flags = ("--config", tmp_path / "run.yaml", "--adapter", tmp_path / "out" / "checkpoint-2")
    report = inspect(tmp_path, *flags)
    assert report.step == 2
    assert report.about["config"]["history"] == "snapshot"
    shown = {tuple(s["token_id"]): (s["weight"] != 0)[s["response"]].tolist() for s in report.samples()}
    documents = selections[2].documents
    for number in range(2):
        mask = documents.ids == number
        kept = selections[2].kept[mask][documents.response[mask]]
        assert shown[tuple(selections[2].measured.input_ids[mask].tolist())] == kept.tolist()
    # The snapshot is of this very step; the base is not.
    assert np.abs(np.nan_to_num(report.columns["rel"])).max() == 0
    base = inspect(tmp_path, *flags, "--history", "base", "--rho", "0.7")
    assert base.about["config"]["rho"] == 0.7
    assert np.abs(np.nan_to_num(base.columns["rel"])).max() > 0


def test_an_adapter_against_another(model_dir, dataset, adapters, tmp_path):
    dataset.to_json(tmp_path / "data.jsonl")
    report = inspect(
        tmp_path, "--adapter", adapters[0], "--history_adapter", adapters[1], "--data", tmp_path / "data.jsonl"
    )
    assert report.about["config"]["history"] == "adapter"
    assert np.abs(np.nan_to_num(report.columns["rel"])).max() > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--rho", "1.5"), "`sstoken_rho` is 1.5"),
        (("--data", "nothing.txt"), "nothing.txt"),
        (("--packing", "--packing_strategy", "wrapped"), "`packing_strategy` is 'wrapped'"),
    ],
    ids=["rho", "data", "packing"],
)
def test_errors_are_one_line(flags, message, model_dir, dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing.txt").write_text("")
    dataset.to_json(tmp_path / "data.jsonl")
    command = ["inspect", "--model", str(model_dir), "--data", "data.jsonl", "--use_cpu", "true", *flags]
    assert main(command) == 2
    shown = capsys.readouterr().err
    assert f"sstoken inspect: {message}" in shown or message in shown
    assert not list(tmp_path.glob("sstoken-inspect*"))
