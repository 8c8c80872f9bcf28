"""Methods of the catalogue in a YAML: what Axolotl has itself is the same, and the others train."""

from __future__ import annotations

import pytest

from .conftest import SPY, losses, run, train
from .test_training import QLORA, difference, saved

LAYOUTS = {"padded": {}, "packed": {"sample_packing": True, "micro_batch_size": 1}}


@pytest.mark.parametrize("four_bit", [False, True], ids=["lora", "qlora"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_eaft_is_axolotls_own(settings, tmp_path, layout, four_bit):
    """Which leaves out the division of the entropy by 3."""
    settings |= {
        **LAYOUTS[layout],
        **(QLORA if four_bit else {}),
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "gradient_accumulation_steps": 2,
    }
    own = run("train", {**settings, "plugins": [SPY], "use_eaft": True, "output_dir": str(tmp_path / "own")})
    ours = train(settings, sstoken={"strategy": "eaft", "scale": 1.0}, output_dir=str(tmp_path / "ours"))
    assert losses(own) == pytest.approx(losses(ours), abs=1e-5)
    assert difference(saved(tmp_path / "own"), saved(tmp_path / "ours")) < 1e-5


def test_a_method_with_a_memory_trains(settings):
    trainer = train(
        settings, **LAYOUTS["packed"], max_steps=4, sstoken={"strategy": "loss_truncation", "hot_start": 1}
    )
    rates = [entry["sstoken/keep_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert rates[0] == 1 > min(rates[1:])
