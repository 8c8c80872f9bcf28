"""Reports of an Axolotl training: the same training, and its own selection."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("pyarrow")
pytest.importorskip("matplotlib")

from sstoken_plugins import hookimpl
from sstoken_plugins.registry import plugin_manager
from sstoken_report.table import Report

from .conftest import train


class Spy:
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


def kept_by_tokens(ids, response, kept) -> dict[tuple[int, ...], list[bool]]:
    return {tuple(ids.tolist()): kept[response].tolist()}


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_same_training_and_its_own_selection(packing, spy, settings):
    settings |= {"max_steps": 3, "lora_dropout": 0.1, "sample_packing": packing, "micro_batch_size": 2}
    without = train({**settings, "output_dir": settings["output_dir"] + "-without"})
    before = {name: p.detach().clone() for name, p in without.model.named_parameters() if p.requires_grad}
    spy.selections.clear()
    trainer = train(settings, sstoken={"report_steps": 1, "report_samples": 24})
    for name, parameter in trainer.model.named_parameters():
        assert name not in before or torch.equal(parameter, before[name]), name

    assert len(spy.selections) == 3
    seen = 0
    for step, selection in enumerate(spy.selections):
        report = Report.read_parquet(Path(settings["output_dir"], "_sstoken-report", f"step-{step:06d}.parquet"))
        assert report.n_samples == 24
        shown: dict[tuple[int, ...], list[bool]] = {}
        for sample in report.samples():
            shown |= kept_by_tokens(sample["token_id"], sample["response"], sample["weight"] != 0)
        documents = selection.documents
        for number in documents.ids.unique().tolist():
            mask = documents.ids == number
            if number >= 0 and documents.response[mask].any():
                kept = kept_by_tokens(
                    selection.measured.input_ids[mask], documents.response[mask], selection.kept[mask]
                )
                assert kept == {tokens: shown[tokens] for tokens in kept}
                seen += 1
    assert seen >= 6
    assert any("sstoken/report_agreement" in entry for entry in trainer.state.log_history)
