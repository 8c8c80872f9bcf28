"""Pages in Weights & Biases, written to this machine alone."""

from __future__ import annotations

import importlib.util

import pytest

from sstoken_plugins import Refused, SSTokenConfig, TokenSelector
from sstoken_plugins.registry import plugin_manager


def test_it_is_asked_for_with_pages_to_show():
    with pytest.raises(Refused, match="`report_steps` is 0, so there are no pages"):
        SSTokenConfig(report_wandb=True)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_missing_tracker_is_named():
    with pytest.raises(Refused, match="wandb is not installed here: run `pip install wandb`"):
        SSTokenConfig(report_wandb=True, report_steps=1)


@pytest.mark.slow
def test_each_page_is_a_panel(make_trainer, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(dir=tmp_path, project="panels")
    try:
        trainer = make_trainer(max_steps=2, save_strategy="no")
        selector = TokenSelector(
            SSTokenConfig(strategy="signal", signal="loss", report_steps=1, report_samples=2, report_wandb=True)
        )
        selector.attach(trainer.model)
        plugin_manager().hook.watch(trainer=trainer, selector=selector)
        trainer.train()
    finally:
        run.finish()
    pages = list(tmp_path.glob("wandb/offline-run-*/files/media/html/sstoken/report_*.html"))
    assert len(pages) == 3
    assert all("Which tokens" in page.read_text(encoding="utf-8") for page in pages)
