"""Looking at a training changes nothing in it, and shows what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("pyarrow")
pytest.importorskip("matplotlib")

from sstoken_plugins import hookimpl
from sstoken_plugins.registry import plugin_manager
from sstoken_report.command import main as report_command
from sstoken_report.table import Report

HISTORIES = [
    {"sstoken_history": "base"},
    {"sstoken_history": "snapshot", "sstoken_refresh_steps": 2},
    {"sstoken_history": "ema", "sstoken_ema_alpha": 0.5},
    {"sstoken_history": "last_visit"},
]


class Spy:
    """Remembers what every micro-batch of a training selected."""

    def __init__(self) -> None:
        self.selections = []

    @hookimpl
    def observe(self, selection, record):
        self.selections.append(selection)


@pytest.fixture
def spy():
    spy = Spy()
    plugin_manager().register(spy)
    yield spy
    plugin_manager().unregister(spy)


def fates(ids, response, kept) -> dict[tuple[int, ...], tuple[bool, ...]]:
    """What is kept of the response tokens, by the sample's tokens."""
    return {tuple(ids): tuple(np.asarray(kept)[np.asarray(response)].tolist())}


def reported(report: Report) -> dict[tuple[int, ...], tuple[bool, ...]]:
    found = {}
    for sample in report.samples():
        found |= fates(sample["token_id"].tolist(), sample["response"], sample["weight"] != 0)
    return found


def trained(selection) -> dict[tuple[int, ...], tuple[bool, ...]]:
    found, documents = {}, selection.documents
    for number in documents.ids.unique().tolist():
        mask = documents.ids == number
        if number >= 0 and documents.response[mask].any():
            found |= fates(selection.measured.input_ids[mask].tolist(), documents.response[mask], selection.kept[mask])
    return found


def folder_of(trainer) -> Path:
    return Path(trainer.args.output_dir) / "_sstoken-report"


def read(trainer, step: int) -> Report:
    return Report.read_parquet(folder_of(trainer) / f"step-{step:06d}.parquet")


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(each, id=each["sstoken_history"], marks=[] if i in (0, 3) else pytest.mark.slow)
        for i, each in enumerate(HISTORIES)
    ],
)
def test_training_is_the_same_bit_for_bit(history, lora, make_trainer, tmp_path):
    """With dropout, whose random numbers are drawn in every step, and over two epochs."""
    lora.lora_dropout = 0.1
    try:
        options = {"max_steps": 8, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, **history}
        without = make_trainer(**options, output_dir=tmp_path / "without")
        without.train()
        reporting = make_trainer(**options, output_dir=tmp_path / "with", sstoken_report_steps=3)
        reporting.train()
    finally:
        lora.lora_dropout = 0.0
    assert not (tmp_path / "without" / "_sstoken-report").exists()
    expected, found = weights(without), weights(reporting)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for before, now in zip(without.state.log_history[:-1], reporting.state.log_history[:-1], strict=True):
        assert before == {name: value for name, value in now.items() if not name.startswith("sstoken/report_")}
    names = sorted(path.name for path in folder_of(reporting).iterdir())
    steps = [f"step-{step:06d}.{kind}" for step in (0, 3, 6, 8) for kind in ("html", "parquet")]
    assert names == ["index.html", *steps]


LAYOUTS = [{}, {"packing": True, "max_length": 64}, {"padding_free": True, "max_length": None}]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["padded", "packed", "padding-free"])
def test_shown_as_kept_is_what_trains(layout, spy, make_trainer, dataset):
    """Every sample of the data set is reported before each step, and some are in the step's batch."""
    trainer = make_trainer(**layout, max_steps=4, sstoken_report_steps=1, sstoken_report_samples=len(dataset))
    trainer.train()
    assert len(spy.selections) == 4
    for step, selection in enumerate(spy.selections):
        shown, kept = reported(read(trainer, step)), trained(selection)
        assert kept
        assert kept == {tokens: shown[tokens] for tokens in kept}
    assert any(reported(read(trainer, 0))[tokens] != fate for tokens, fate in reported(read(trainer, 4)).items())


def test_trackers_get_the_means(make_trainer):
    trainer = make_trainer(max_steps=2, sstoken_report_steps=1, sstoken_report_samples=5)
    trainer.train()
    first, second = (entry for entry in trainer.state.log_history if "loss" in entry)
    assert "sstoken/report_agreement" in second
    report = read(trainer, 2)
    assert second["sstoken/report_keep_rate"] == pytest.approx(report.kept.sum() / report.response.sum())
    assert first["sstoken/keep_rate"] > 0


def test_an_earlier_run_is_kept(make_trainer, caplog):
    for _ in range(2):
        trainer = make_trainer(max_steps=1, sstoken_report_steps=1, sstoken_report_samples=3)
        trainer.train()
    folder = folder_of(trainer)
    assert (folder.with_name("_sstoken-report-1") / "step-000001.parquet").is_file()
    assert (folder / "step-000001.parquet").is_file()


def test_a_resumed_run_goes_on_with_the_same_samples(make_trainer, tmp_path):
    options = {"sstoken_report_steps": 2, "sstoken_report_samples": 7, "save_strategy": "steps", "save_steps": 2}
    make_trainer(**options, max_steps=4, lr_scheduler_type="constant").train()
    whole = {path.name: Report.read_parquet(path) for path in (tmp_path / "out" / "_sstoken-report").glob("*.parquet")}
    trainer = make_trainer(**options, max_steps=4, lr_scheduler_type="constant")
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    for name, report in whole.items():
        again = Report.read_parquet(folder_of(trainer) / name)
        assert all(
            np.array_equal(again.columns[column], values, equal_nan=values.dtype == np.float32)
            for column, values in report.columns.items()
        )


def test_index_after_a_kill(make_trainer, capsys):
    """A run that died in the middle of a file, and before its index."""
    trainer = make_trainer(max_steps=3, sstoken_report_steps=1, sstoken_report_samples=4)
    trainer.train()
    folder = folder_of(trainer)
    (folder / "index.html").unlink()
    (folder / "step-000001.html").unlink()
    (folder / "step-000002.parquet").write_bytes((folder / "step-000002.parquet").read_bytes()[:500])
    (folder / ".step-000003.parquet.77").write_bytes(b"half")
    assert report_command([str(folder.parent)]) == 0
    index = (folder / "index.html").read_text()
    assert "step-000001.html" in index
    assert "step-000002.html" not in index
    assert (folder / "step-000001.html").is_file()
    assert "3 reports, of steps 0 to 3" in capsys.readouterr().out


def test_no_report_is_said(tmp_path, capsys):
    assert report_command([str(tmp_path)]) == 1
    assert "report_steps" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_does_not_stop_the_training(make_trainer, tmp_path, caplog):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_sstoken-report").write_text("a file of somebody")
    trainer = make_trainer(max_steps=2, sstoken_report_steps=1, sstoken_report_samples=3)
    trainer.train()
    assert trainer.state.global_step == 2
    assert "could not be written" in caplog.text
    assert (tmp_path / "out" / "_sstoken-report").read_text() == "a file of somebody"


def test_off_imports_nothing(model_dir, tmp_path):
    code = (
        "import sys\n"
        "from datasets import Dataset\n"
        "from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer\n"
        "data = Dataset.from_list([{'prompt': 'w1 w2', 'completion': ' w3 w4 w5'}] * 4)\n"
        f"args = SSTokenSFTConfig(output_dir={str(tmp_path)!r}, sstoken=True, sstoken_gamma=0.0, max_steps=1,\n"
        "    bf16=False, use_cpu=True, report_to=[], save_strategy='no')\n"
        f"SSTokenSFTTrainer(model={str(model_dir)!r}, args=args, train_dataset=data).train()\n"
        "assert not {'sstoken_report.callback', 'sstoken_report.page', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_stream_is_refused(make_trainer, dataset):
    with pytest.raises(ValueError, match="`sstoken_report_steps` is 1, but the training data are a stream"):
        make_trainer(train_dataset=dataset.to_iterable_dataset(), sstoken_report_steps=1)
