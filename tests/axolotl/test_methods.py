"""Methods of the catalogue in a YAML: what Axolotl has itself is the same, and the others train."""

from __future__ import annotations

import pytest
from peft import load_peft_weights

from ..methods.steps import ALONE, REMEMBERING, assert_steps_follow, each
from .conftest import ONE_KERNEL, SPY, SSTOKEN, data, losses, run, train
from .test_training import QLORA, difference, saved

LAYOUTS = {"padded": {}, "packed": {"sample_packing": True, "micro_batch_size": 1}}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cadft", "loss_truncation", "q_tuning"])
def test_resuming_remembers_what_was_seen(settings, tmp_path, method):
    settings |= {**LAYOUTS["packed"], "gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": 2}
    settings |= {"max_steps": 4, "sstoken": {**REMEMBERING[method].settings(tmp_path), "half_life": 3.0}}
    whole = train(settings, output_dir=str(tmp_path / "whole"))
    checkpoint = str(tmp_path / "whole" / "checkpoint-2")
    resumed = train(settings, output_dir=str(tmp_path / "resumed"), resume_from_checkpoint=checkpoint)
    assert losses(whole)[2:] == losses(resumed)[2:]
    assert difference(saved(tmp_path / "whole"), saved(tmp_path / "resumed")) == 0


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


@pytest.fixture
def assert_steps(settings, adapters):
    """Trains by a method, and compares each step with its loss."""

    def check(case, layout, four_bit, n_steps, **changes):
        trainer = train(
            {**settings, **LAYOUTS[layout], **(QLORA if four_bit else {}), **changes},
            plugins=[SPY, SSTOKEN, ONE_KERNEL],
            lora_model_dir=str(adapters[0]),
            sstoken=case.settings(adapters[1]),
            max_steps=n_steps,
            optimizer="sgd",
            learning_rate=1.0,
            max_grad_norm=0.0,
        )
        assert len(trainer.steps) == n_steps
        model = trainer.accelerator.unwrap_model(trainer.model)
        reference = load_peft_weights(str(adapters[1]), device="cpu")
        assert_steps_follow(case, model, list(trainer.steps.values()), reference)

    return check


@pytest.mark.parametrize(("method", "layout", "four_bit"), each(ALONE, LAYOUTS, "packed"))
def test_a_step_is_that_of_the_published_loss(assert_steps, four_chats, method, layout, four_bit):
    """On conversations of several turns, of which the answers train."""
    assert_steps(ALONE[method], layout, four_bit, n_steps=ALONE[method].n_steps, datasets=data(four_chats))


@pytest.mark.parametrize(("method", "layout", "four_bit"), each(REMEMBERING, LAYOUTS, "packed", ("talr", "flow")))
def test_each_step_is_that_of_a_loss_that_remembers(assert_steps, method, layout, four_bit):
    smaller = {"sequence_len": 64, "micro_batch_size": 1 if layout == "packed" else 3}
    assert_steps(REMEMBERING[method], layout, four_bit, n_steps=4, gradient_accumulation_steps=2, **smaller)
