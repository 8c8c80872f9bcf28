"""Reports come in as any plugin does: by hooks, with options of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import sstoken_report.plugin
from sstoken_plugins import Refused, SSTokenConfig, TokenSelector, all_options
from sstoken_plugins.installing import how_to_install
from sstoken_plugins.registry import plugin_manager
from sstoken_report.callback import ReportCallback
from sstoken_report.command import main as report_command
from sstoken_report.folder import write
from sstoken_report.inspection import InspectArguments, present, resume
from sstoken_report.table import Report


def test_options_have_owners_help_and_checks():
    config = SSTokenConfig(strategy="full", report_steps=10)
    assert (config.report_steps, config.report_samples) == (10, 50)
    assert all_options()["report_steps"].owners == {"extension report": 0}
    assert "How many training samples" in all_options()["report_samples"].help
    with pytest.raises(Refused) as refused:
        SSTokenConfig(report_steps=-1, report_samples=0)
    assert "`report_steps` is -1: set it to a number of optimizer steps" in str(refused.value)
    assert "`report_samples` is 0, but it is the number of samples" in str(refused.value)


def test_missing_packages_are_refused_before_anything_loads(monkeypatch):
    """With a package that no environment has in place of those that this one has."""
    monkeypatch.setattr(sstoken_report.plugin, "PACKAGES", ("matplotlib", "no_such_package"))
    assert SSTokenConfig().report_steps == 0
    with pytest.raises(Refused) as refused:
        SSTokenConfig(report_steps=5)
    assert str(refused.value.named(lambda option: f"--sstoken_{option}")) == (
        "`--sstoken_report_steps` is 5, but no_such_package is not installed here: run "
        f"`{how_to_install('report')}`, or set `--sstoken_report_steps` to 0."
    )


def test_the_plugin_itself_imports_little():
    code = (
        "import sys, sstoken_report.plugin\n"
        "heavy = {'pyarrow', 'matplotlib', 'jinja2', 'numpy.lib', 'transformers', 'sstoken_report.callback'}\n"
        "assert not {'pyarrow', 'matplotlib', 'jinja2', 'transformers', 'sstoken_report.callback'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("steps", [0, 2])
def test_a_training_that_asks_for_reports_is_watched(steps, make_trainer, tmp_path, capsys):
    trainer = make_trainer(max_steps=3, save_strategy="no")
    selector = TokenSelector(SSTokenConfig(strategy="signal", signal="loss", report_steps=steps, report_samples=4))
    selector.attach(trainer.model)
    plugin_manager().hook.watch(trainer=trainer, selector=selector)
    callbacks = [each for each in trainer.callback_handler.callbacks if isinstance(each, ReportCallback)]
    assert len(callbacks) == bool(steps)
    if not steps:
        return
    trainer.train()
    folder = Path(trainer.args.output_dir) / "_sstoken-report"
    written = sorted(path.name for path in folder.iterdir())
    assert written == ["index.html", *(f"step-00000{n}.{kind}" for n in (0, 2, 3) for kind in ("html", "parquet"))]
    report = Report.read_parquet(folder / "step-000002.parquet")
    means = selector.metrics.drain()
    assert means["sstoken/report_keep_rate"] == pytest.approx(report.kept.sum() / report.response.sum(), rel=0.05)
    assert {name for name in means if "report" in name} == {"sstoken/report_keep_rate", "sstoken/report_agreement"}
    rows = [int(columns["row"][0]) for columns in report.samples()]
    assert rows == sorted(set(rows))
    assert "".join(next(report.samples())["text"]).startswith("<|user|>Write HTML.")

    index = (folder / "index.html").read_text("utf-8")
    assert "log-prob now, mean" in index
    (folder / "index.html").unlink()
    (folder / "step-000002.html").unlink()
    (folder / "step-000003.parquet").write_bytes(b"half")
    assert report_command([str(folder.parent)]) == 0
    assert "2 reports, of steps 0 to 2" in capsys.readouterr().out
    assert (folder / "step-000002.html").is_file()
    assert "step-000003.html" not in (folder / "index.html").read_text("utf-8")


def test_what_somebody_put_into_the_folder_is_not_followed(tmp_path, monkeypatch):
    """The temporary file is created anew, or not at all."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for planted in (f".page.html.{i}" for i in ("1", "77")):
        (tmp_path / planted).symlink_to(victim)
    write(tmp_path / "page.html", lambda stream: stream.write(b"whole"))
    assert (tmp_path / "page.html").read_bytes() == b"whole"
    assert victim.read_text() == "mine"
    # Even where its name is known.
    monkeypatch.setattr("secrets.token_hex", lambda n: "77")
    with pytest.raises(FileExistsError):
        write(tmp_path / "page.html", lambda stream: stream.write(b"other"))
    assert victim.read_text() == "mine"


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    def half(stream):
        stream.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "page.html", half)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "page.html", lambda stream: stream.write(b"whole"))
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "page.html").stat().st_mode == plain.stat().st_mode


def test_present_writes_what_it_prints(make_trainer, tmp_path, capsys):
    trainer = make_trainer()
    trainer.token_selector = TokenSelector(SSTokenConfig(history="snapshot"))
    trainer.token_selector.attach(trainer.model)
    asked_for = SSTokenConfig(rho=0.6)
    present(trainer, InspectArguments(n_samples=3, out=str(tmp_path / "look"), show=1), asked_for, 0)
    printed = " ".join(capsys.readouterr().out.split())
    assert "REL is 0 everywhere" in printed
    assert "3 samples, step 0" in printed
    assert "attention, mean" in printed
    report = Report.read_parquet(tmp_path / "look" / "sstoken-inspect.parquet")
    assert report.about["config"] == asked_for.to_dict()
    told = json.loads((tmp_path / "look" / "sstoken-inspect.json").read_text("utf-8"))
    assert told["about"]["columns"]["rel"]["label"] == "REL"
    kept = [sum(sample["kept"]) for sample in told["samples"]]
    assert kept == [int((columns["weight"] == 1).sum()) for columns in report.samples()]
    assert np.array_equal([sample["row"] for sample in told["samples"]], [0, 2, 4])


def test_an_adapter_of_unknown_age_is_past_its_warm_up(tmp_path):
    pytest.importorskip("sstoken_transformers.state")
    selector = TokenSelector(SSTokenConfig(rel_warmup_steps=37))
    assert resume(selector, tmp_path) == 0
    (tmp_path / "adapter_config.json").write_text("{}")
    assert resume(selector, tmp_path) == 37
    assert resume(TokenSelector(SSTokenConfig()), tmp_path) == 0
    (tmp_path / "trainer_state.json").write_text('{"global_step": 5}')
    assert resume(selector, tmp_path) == 5


def test_deepspeed_and_streams_are_refused():
    selector = SimpleNamespace(config=SSTokenConfig(report_steps=7))
    known = {"processing_class": SimpleNamespace(decode=str)}
    for trainer, reason in (
        (SimpleNamespace(is_deepspeed_enabled=True, **known), "under DeepSpeed nothing is scored"),
        (
            SimpleNamespace(is_deepspeed_enabled=False, train_dataset=iter(()), **known),
            "the training data are a stream",
        ),
    ):
        with pytest.raises(Refused, match=f"`report_steps` is 7, but {reason}"):
            ReportCallback(trainer, selector)


def test_a_notebook_shows_the_page(make_trainer, tmp_path):
    from sstoken_report.notebook import show

    trainer = make_trainer()
    selector = TokenSelector(SSTokenConfig(strategy="signal", signal="loss", rho=0.5))
    selector.attach(trainer.model)
    view = show(selector, trainer.model, trainer.get_eval_dataloader(trainer.train_dataset), trainer.processing_class)
    assert repr(view).startswith("SelectionView(6 samples, ")
    assert {int(columns["row"][0]) for columns in view.report.samples()} == set(range(6))
    shown = view._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "<script" not in shown
    view.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8") == view.html
