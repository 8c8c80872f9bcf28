"""A reference beside the history, and an anchor, in a YAML."""

from __future__ import annotations

import pytest
import yaml

from sstoken_plugins.cli import main
from sstoken_plugins.store import DiskStore

from ..local import same_tokenizer
from .conftest import SSTOKEN, losses, train
from .test_training import QLORA


def test_an_adapter_and_an_anchor(settings, adapters):
    block = {"strategy": "rho1", "reference_adapter": str(adapters[1]), "anchor": "k3"}
    trainer = train(settings, sstoken=block, max_steps=2, sample_packing=True, micro_batch_size=1)
    assert len(losses(trainer)) == 2
    assert not any("sstoken_history" in name for name in trainer.model.state_dict())


@pytest.fixture
def larger(model_dir, tmp_path):
    """Another model with the tokenizer of the one in training."""
    return str(same_tokenizer(model_dir, tmp_path / "larger"))


@pytest.mark.parametrize(
    "layout",
    [{"sample_packing": True, "micro_batch_size": 1}, pytest.param(QLORA, marks=pytest.mark.slow)],
    ids=["packed", "qlora"],
)
def test_record_then_train(settings, larger, tmp_path, capsys, layout):
    """The other model is recorded alone, over what the training will see, and then no more needed."""
    block = {"strategy": "rho1", "reference_store": str(tmp_path / "reference")}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**settings, **layout, "plugins": [SSTOKEN], "sstoken": block}))
    command = ["record", "--as", "reference", "--model", larger, str(path)]
    assert main(command) == 0
    assert "Reference recorded: 24 new samples, 24 in all" in capsys.readouterr().out
    assert DiskStore(tmp_path / "reference").made_by["role"] == "reference"
    trainer = train(settings, sstoken=block, **layout)
    rates = [entry["sstoken/keep_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert all(0.6 <= rate < 0.75 for rate in rates)


def test_a_reference_needs_a_place(settings, larger, tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**settings, "plugins": [SSTOKEN]}))
    assert main(["record", "--as", "reference", "--model", larger, str(path)]) == 2
    assert "`reference_store` is not set in `sstoken:`" in capsys.readouterr().err
