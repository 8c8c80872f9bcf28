"""Methods of the catalogue in a YAML: what Axolotl has itself is the same, and the others train."""

from __future__ import annotations

import pytest
import torch
from peft import load_peft_weights, set_peft_model_state_dict

from ..methods.whole_rows import CASES, assert_is_the_step, expected_gradient
from .conftest import ONE_KERNEL, SPY, SSTOKEN, data, losses, run, train
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


@pytest.mark.parametrize("four_bit", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["lora", "qlora"])
@pytest.mark.parametrize("layout", [pytest.param("padded", marks=pytest.mark.slow), "packed"])
@pytest.mark.parametrize("method", CASES)
def test_a_step_is_that_of_the_published_loss(settings, adapters, four_chats, method, layout, four_bit):
    """On conversations of several turns, of which the answers train."""
    needed = {"history": "snapshot", "refresh_steps": 8} if method == "psft" else {}
    settings |= {**LAYOUTS[layout], **(QLORA if four_bit else {})}
    trainer = train(
        settings,
        plugins=[SPY, SSTOKEN, ONE_KERNEL],
        datasets=data(four_chats),
        lora_model_dir=str(adapters[0]),
        sstoken={"strategy": method, **CASES[method], **needed},
        max_steps=1,
        optimizer="sgd",
        learning_rate=1.0,
        max_grad_norm=0.0,
    )
    model = trainer.accelerator.unwrap_model(trainer.model)

    def weights() -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    after = weights()
    set_peft_model_state_dict(model, load_peft_weights(str(adapters[0]), device="cpu"))
    assert_is_the_step(weights(), after, expected_gradient(model.train(), trainer.train_dataset, method))
