"""Every method by its name under TRL."""

from __future__ import annotations

import pytest

pytest.importorskip("trl")

import torch
from peft import load_peft_weights
from safetensors.torch import load_file
from trl import SFTTrainer

from sstoken_plugins import registry
from sstoken_trl import SSTokenSFTTrainer

from ..trl.conftest import adapters, conversations, dataset, lora, make_trainer, model_dir, settings  # noqa: F401
from ..trl.test_script import in_own_processes, log_of
from ..trl.test_training import difference, load, losses, nf4, round_adapters, weights
from .steps import ALONE, REMEMBERING, Watched, assert_steps_follow, each

# What a method cannot do without.
REQUIRED = {"signal": {"sstoken_signal": "rel"},
            "psft": {"sstoken_history": "snapshot", "sstoken_refresh_steps": 8}}  # fmt: skip
REFERENCE = ("rho1", "token_cleaning", "forgetting")
LAYOUTS = {"padded": {}, "packed": {"packing": True, "max_length": 128, "per_device_train_batch_size": 2}}
SGD = {"optim": "sgd", "learning_rate": 0.1}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("strategy", sorted(registry.registered("method")))
def test_every_method_trains(make_trainer, adapters, strategy, layout):  # noqa: F811
    required = dict(REQUIRED.get(strategy, {}))
    if strategy in REFERENCE:
        required["sstoken_reference_adapter"] = str(adapters[0])
        required |= {} if strategy == "rho1" else {"sstoken_over": "sample"}
    trainer = make_trainer(sstoken_strategy=strategy, **required, **LAYOUTS[layout])
    before = weights(trainer)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 2
    assert all(0 <= entry["sstoken/keep_rate"] <= 1 for entry in logs)
    assert difference(before, weights(trainer)) > 0 or logs[-1]["sstoken/keep_rate"] == 0


@pytest.mark.parametrize("four_bit", [False, True], ids=["float32", "nf4"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dft_is_trls_own(make_trainer, layout, four_bit):  # noqa: F811
    results = []
    for cls, options in (
        (SFTTrainer, {"sstoken": False, "loss_type": "dft"}),
        (SSTokenSFTTrainer, {"sstoken_strategy": "dft"}),
    ):
        options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, **options, **LAYOUTS[layout]}
        trainer = make_trainer(cls, quantization_config=nf4() if four_bit else None, **options, **SGD)
        if four_bit:
            round_adapters(trainer.model)
        before = weights(trainer)
        trainer.train()
        results.append((losses(trainer), weights(trainer), before))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5)
    assert difference(results[0][1], results[1][1]) < 1e-5
    assert difference(results[0][1], results[0][2]) > 1e-4


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("dft", {"learning_rate": 1.0}),
        ("loss_truncation", {"sstoken_hot_start": 4, "learning_rate": 0.1}),
        ("npo", {"learning_rate": 0.1}),
        ("cadft", {"sstoken_half_life": 2.0, "learning_rate": 1.0}),
        ("q_tuning", {"sstoken_half_life": 2.0, "learning_rate": 0.1}),
    ],
)
def test_batch_and_accumulation_do_not_matter(make_trainer, strategy, options):  # noqa: F811
    results = []
    for batch, accumulation in ((4, 1), (2, 2), (1, 4)):
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        trainer = make_trainer(sstoken_strategy=strategy, optim="sgd", max_steps=4, **sizes, **options)
        before = weights(trainer)
        trainer.train()
        results.append(weights(trainer))
    assert difference(results[0], before) > 1e-3
    assert difference(results[0], results[1]) < 1e-5
    assert difference(results[0], results[2]) < 1e-5


@pytest.mark.parametrize(
    ("strategy", "options"),
    [("loss_truncation", {"sstoken_hot_start": 4}), ("q_tuning", {}), ("cadft", {})],
)
def test_resuming_remembers_what_was_seen(make_trainer, tmp_path, strategy, options):  # noqa: F811
    options = {"sstoken_strategy": strategy, "max_steps": 5, "save_strategy": "steps", "save_steps": 3, **options}
    whole = make_trainer(output_dir=tmp_path / "whole", sstoken_half_life=2.0, **options)
    whole.train()
    resumed = make_trainer(output_dir=tmp_path / "resumed", sstoken_half_life=2.0, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    forgetful = make_trainer(output_dir=tmp_path / "forgetful", sstoken_half_life=0.01, **options)
    forgetful.train()
    assert difference(weights(whole), weights(forgetful)) > 0, "the case shows nothing"
    assert losses(whole)[3:] == losses(resumed)[3:]
    assert difference(weights(whole), weights(resumed)) == 0


@pytest.mark.slow
def test_two_processes_remember_what_one_does(settings, tmp_path):  # noqa: F811
    launch, script = ["torch.distributed.run", "--nproc_per_node"], ["-m", "sstoken_trl.sft"]
    common = {"optim": "sgd", "learning_rate": 0.1, "max_steps": 9, "lora_dropout": 0}
    common |= {"sstoken_strategy": "loss_truncation", "sstoken_hot_start": 4, "sstoken_half_life": 3}
    for name, n in (("one", 1), ("two", 2)):
        options = {**common, "output_dir": tmp_path / name, "per_device_train_batch_size": 4 // n}
        in_own_processes([*launch, str(n), *script], settings, **options)
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert difference(one, two) < 1e-6
    rates = [[entry["sstoken/keep_rate"] for entry in log_of(tmp_path / name)[:9]] for name in ("one", "two")]
    assert rates[0] == pytest.approx(rates[1], abs=1e-6)
    assert min(rates[0]) < 1


KINDS = {
    "padded": {},
    "packed": {"packing": True, "max_length": 64, "per_device_train_batch_size": 1},
    "padding-free": {"padding_free": True, "max_length": None},
    "turns": {"assistant_only_loss": True},
}


class Watching(Watched, SSTokenSFTTrainer):
    """Ours, watched."""


@pytest.fixture
def assert_steps(make_trainer, model_dir, adapters, dataset, conversations):  # noqa: F811
    """Trains by a method, and compares each step with its loss."""

    def check(case, kind, four_bit, n_steps):
        trainer = make_trainer(
            Watching,
            model=load(model_dir, adapters[0], four_bit),
            peft_config=None,
            train_dataset=(conversations if kind == "turns" else dataset).select(range(12)),
            **{f"sstoken_{name}": value for name, value in case.settings(adapters[1]).items()},
            **{"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, **KINDS[kind]},
            max_steps=n_steps,
            optim="sgd",
            learning_rate=1.0,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            gradient_checkpointing=False,
        )
        reference = load_peft_weights(str(adapters[1]), device="cpu")
        if four_bit:
            round_adapters(trainer.model)
            reference = {name: values.to(torch.bfloat16).float() for name, values in reference.items()}
        trainer.train()
        assert len(trainer.steps) == n_steps
        assert_steps_follow(case, trainer.model, list(trainer.steps.values()), reference)

    return check


@pytest.mark.filterwarnings("ignore:`history` is '.*' and training continues")
@pytest.mark.parametrize(("method", "kind", "four_bit"), each(ALONE, KINDS, "turns"))
def test_a_step_is_that_of_the_published_loss(assert_steps, method, kind, four_bit):
    assert_steps(ALONE[method], kind, four_bit, n_steps=ALONE[method].n_steps)


@pytest.mark.filterwarnings("ignore:`history` is '.*' and training continues")
@pytest.mark.parametrize(("method", "kind", "four_bit"), each(REMEMBERING, KINDS, "turns", ("talr", "flow")))
def test_each_step_is_that_of_a_loss_that_remembers(assert_steps, method, kind, four_bit):
    assert_steps(REMEMBERING[method], kind, four_bit, n_steps=4)
