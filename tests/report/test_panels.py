"""Reports in trackers, each of which writes to this machine alone."""

from __future__ import annotations

import pytest

from sstoken_plugins import Refused, SSTokenConfig, TokenSelector
from sstoken_plugins.registry import plugin_manager

OPTIONS = {"strategy": "signal", "signal": "loss", "report_steps": 1, "report_samples": 2, "report_trackers": True}


def watched(make_trainer, **options):
    trainer = make_trainer(max_steps=2, save_strategy="no", **options)
    selector = TokenSelector(SSTokenConfig(**OPTIONS))
    selector.attach(trainer.model)
    plugin_manager().hook.watch(trainer=trainer, selector=selector)
    return trainer


def test_they_are_asked_for_with_reports_to_show():
    with pytest.raises(Refused, match="`report_steps` is 0, so there are no reports"):
        SSTokenConfig(report_trackers=True)


def test_a_training_without_a_tracker_is_refused(make_trainer):
    with pytest.raises(
        Refused, match="`report_trackers` is True, but `report_to` names no tracker: set it to 'wandb'"
    ):
        watched(make_trainer)


def test_in_tensorboard_each_report_is_a_text(make_trainer, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugin_util import markdown_to_safe_html

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path))
    watched(make_trainer, report_to=["tensorboard"]).train()
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    texts = [
        (event.step, event.tensor_proto.string_val[0].decode())
        for event in events.Tensors("sstoken/report/text_summary")
    ]
    assert [step for step, _ in texts] == [0, 1, 2]
    for step, text in texts:
        shown = markdown_to_safe_html(text)
        assert f"step-{step:06d}.html</code>" in shown
        assert shown.count("<pre>") == 1
        assert "Which tokens train   kept  [-dropped-]  prompt" in shown
        assert "Sample 2: " in shown
        assert "Dropped most often" in shown.split("<pre>")[1].split("</pre>")[0]
        assert "<script" not in shown


@pytest.mark.slow
def test_in_weights_and_biases_each_page_is_a_panel(make_trainer, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(dir=tmp_path, project="panels")
    try:
        watched(make_trainer, report_to=["wandb"]).train()
    finally:
        run.finish()
    pages = list(tmp_path.glob("wandb/offline-run-*/files/media/html/sstoken/report_*.html"))
    assert len(pages) == 3
    assert all("Which tokens" in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.slow
def test_in_trackio_each_page_is_a_panel(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    trackio = pytest.importorskip("trackio")
    if str(trackio.TRACKIO_DIR) != str(tmp_path):
        pytest.skip("trackio was imported before, and writes elsewhere")
    watched(make_trainer, report_to=["trackio"]).train()
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) == 3
    assert all("Which tokens" in page.read_text(encoding="utf-8") for page in pages)
