"""A researcher's own method, signal and measurement: a file each, and nothing else changes."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from sstoken_plugins import (
    Documents,
    SSTokenConfig,
    all_options,
    keep_best,
    token_forward,
    weighted_nll,
)

from .plugins import band, second_opinion
from .selectors import attached
from .tiny import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")


def test_a_method_is_one_short_file(lora, batch, register):
    register(band)
    assert len(Path(inspect.getfile(band)).read_text().splitlines()) <= 45
    model = lora(tiny("llama")).train()
    selector = attached(model, strategy="band", band_low=2, band_high=5.0)
    assert selector.history is None
    forward, selection = selector.forward(model, batch, step=0)
    loss = -forward.log_probs.detach()
    assert torch.equal(selection.kept, selection.documents.response & (loss > 2) & (loss <= 5))
    assert selection.kept.any()
    assert selection.dropped.any()
    weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch)).backward()
    selector.step_end(1)
    config = selector.config
    assert config.summary() == "strategy=band, band_low=2, band_high=5"
    assert config.band_low == config.to_dict()["band_low"] == 2.0
    assert SSTokenConfig(strategy="band").band_high == 8.0
    option = all_options()["band_high"]
    assert option.owners == {"method band": 8.0}
    assert option.described == "Tokens of a loss above this are out of reach. Default: 8.0."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"band_low": -1}, r"`band_low` is -1\.0: set it above 0\."),
        ({"band_low": "much"}, "`band_low` is 'much', but it has to be a number"),
        ({"band_low": 9.0}, r"`band_high` is 8\.0, `band_low` is 9\.0: set the first above"),
        ({"band_lo": 1.0}, "`band_lo` is not an option: did you mean `band_low`"),
        ({"rho": 0.5}, r"`rho` is 0\.5, which `strategy` 'band' .* does not read and would ignore: remove it"),
    ],
)
def test_its_options_are_checked_like_all_others(register, options, message):
    register(band)
    with pytest.raises(ValueError, match=message):
        SSTokenConfig(strategy="band", **options)


def test_its_options_mean_nothing_to_another_method(register):
    register(band)
    with pytest.raises(ValueError, match=r"`band_low` is 1\.0, which `strategy` 'sstoken' .*\(`strategy` 'band'\)"):
        SSTokenConfig(band_low=1.0)


def test_without_the_plugin_nobody_knows_them():
    with pytest.raises(ValueError, match=r"`strategy` is 'band', which is not registered\. Known: .*sstoken"):
        SSTokenConfig(strategy="band")
    with pytest.raises(ValueError, match="`band_low` is not an option"):
        SSTokenConfig(band_low=1.0)


def length(cls) -> int:
    tree = ast.parse(inspect.getsource(cls)).body[0]
    return tree.end_lineno - tree.lineno + 1


@pytest.mark.parametrize("history", [None, "adapter"])
def test_a_measurement_needs_no_word_of_the_engine(lora, batch, register, tmp_path, history):
    register(second_opinion)
    assert length(second_opinion.Opinion) <= 40
    lora(tiny("llama"), seed=5).save_pretrained(tmp_path / "other")
    lora(tiny("llama"), seed=6).save_pretrained(tmp_path / "earlier")
    model = lora(tiny("llama")).train()

    def alone(name):
        with torch.no_grad():
            return token_forward(PeftModel.from_pretrained(tiny("llama"), tmp_path / name), batch).log_probs

    selector = attached(model, strategy="follow_other", opinion_adapter=str(tmp_path / "other"), rho=0.4)
    _, selection = selector.forward(model, batch, step=0)
    measured, documents = selection.measured, Documents.from_batch(batch)
    assert torch.equal(measured["opinion"], alone("other"))
    assert torch.equal(selection.kept, keep_best(alone("other") - measured.log_probs, documents, 0.4))
    assert torch.equal(selector.inspect(model, batch, step=1).weights, selection.weights)
    selector.step_end(1)

    with pytest.raises(ValueError, match="`opinion_adapter` is not set: set it to the folder"):
        SSTokenConfig(strategy="follow_other")
    if history:  # both beside the trained one: they are three adapters, and keep out of each other's way
        earlier = attached(model, history="adapter", history_adapter=str(tmp_path / "earlier"))
        _, selection = earlier.forward(model, batch, step=0)
        assert torch.equal(selection.measured["history"], alone("earlier"))
        _, selection = selector.forward(model, batch, step=1)
        assert torch.equal(selection.measured["opinion"], alone("other"))
        assert not [key for key in model.state_dict() if "sstoken_history" in key or "aaaaaaaa" in key]
