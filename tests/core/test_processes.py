"""Several processes take the step that one would, and run the same passes, also where one of them lacks a sample.

Real DDP and FSDP2 on a CPU; accelerate offers no FSDP2 there, so it is torch's `fully_shard`.
"""

from __future__ import annotations

import pytest

from sstoken_plugins import SSTokenConfig

from .distributed import STEPS, STRANGERS, make_model, train, train_in_two_processes

pytestmark = pytest.mark.filterwarnings("ignore:`history` is .* and training continues")


def config_of(history: str, folder) -> SSTokenConfig:
    options = {}
    if history == "adapter":
        make_model(seed=2).save_pretrained(folder / "earlier")
        options = {"history_adapter": str(folder / "earlier")}
    if history == "recorded":
        options = {"history_store": str(folder / "store"), "history_record": True}
    if history == "last_visit with base":
        return SSTokenConfig(history="last_visit", first_visit="base")
    return SSTokenConfig(history=history, **options)


def assert_close(one, two):
    assert one.keys() == two.keys()
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-6


def live_passes(passes) -> list[int]:
    """How many passes each step ran for its history, by either process; the first one also compares the head."""
    for mine in passes:
        for step in mine:
            assert [gradient for which, gradient in step if which == "model"].count(True) == 1
    assert passes[0] == passes[1], "the processes ran different passes"
    return [sum(1 for which, gradient in step if which == "model" and not gradient) for step in passes[0]]


@pytest.mark.slow
@pytest.mark.parametrize("wrapping", ["ddp", "fsdp"])
@pytest.mark.parametrize("history", ["recorded", "last_visit with base"])
def test_a_sample_that_one_process_lacks_costs_a_pass_on_both(tmp_path, history, wrapping):
    """Or one would wait for ever for the other, in a pass that the other does not run."""
    config = config_of(history, tmp_path)
    one, alone = train(config, strangers=True)
    two, passes = train_in_two_processes(config, tmp_path, wrapping, strangers=True)
    assert_close(one, two)
    found = live_passes(passes)
    epoch_one = STEPS // 2
    for step in range(1, STEPS):
        lacks = step in STRANGERS or (history != "recorded" and step < epoch_one)
        assert found[step] == int(lacks), step
        assert [gradient for _, gradient in alone[step]].count(False) == int(lacks), step
    if wrapping == "ddp":
        outer = [gradient for step in passes[0] for which, gradient in step if which == "wrapper"]
        assert outer == [True] * STEPS, "passes without gradient go past DDP, which would synchronise in them"


@pytest.mark.slow
@pytest.mark.parametrize("wrapping", ["ddp", "fsdp"])
@pytest.mark.parametrize("history", ["base", "adapter"])
def test_two_processes_are_one(tmp_path, history, wrapping):
    config = config_of(history, tmp_path)
    one, _ = train(config)
    two, passes = train_in_two_processes(config, tmp_path, wrapping)
    assert_close(one, two)
    assert live_passes(passes)[1:] == [1] * (STEPS - 1)


@pytest.mark.slow
@pytest.mark.parametrize("history", ["recorded", "last_visit"])
def test_sharded_without_a_miss_needs_no_pass(tmp_path, history):
    config = config_of(history, tmp_path)
    one, _ = train(config)
    two, passes = train_in_two_processes(config, tmp_path, "fsdp")
    assert_close(one, two)
    assert live_passes(passes)[1:] == [0] * (STEPS - 1)


@pytest.mark.slow
@pytest.mark.parametrize("wrapping", ["ddp", "fsdp"])
@pytest.mark.parametrize("history", ["snapshot", "ema"])
def test_copies_follow(tmp_path, history, wrapping):
    options = {"refresh_steps": 2.0} if history == "snapshot" else {"ema_alpha": 0.5}
    config = SSTokenConfig(history=history, **options)
    assert_close(train(config)[0], train_in_two_processes(config, tmp_path, wrapping)[0])
