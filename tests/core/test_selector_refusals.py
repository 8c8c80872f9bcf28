"""What the selector refuses, and what stops a run."""

from __future__ import annotations

import math

import pytest
import torch

from sstoken_plugins import (
    SSTokenConfig,
    TokenSelector,
    weighted_nll,
)

from .selectors import attached
from .tiny import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")


@pytest.mark.parametrize(
    ("options", "kind", "known"),
    [
        (
            {"strategy": "nope"},
            "strategy",
            "asft, cadft, deft, dft, .*full, grounded, .*random, .*rho1, signal, sstoken",
        ),
        ({"history": "nope"}, "history", "adapter, auto, base"),
        (
            {"strategy": "signal", "signal": "nope"},
            "signal",
            "attention, entropy, history_log_prob, history_mass, history_plausibility, log_prob, loss",
        ),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(options, kind, known):
    with pytest.raises(ValueError, match=f"`{kind}` is 'nope', which is not registered. Known: {known}"):
        TokenSelector(SSTokenConfig(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 0.0}, r"`rho` is 0.0.*\(0, 1\]"),
        ({"rho": 1.01}, "`rho` is 1.01"),
        ({"rho": math.nan}, "`rho` is nan"),
        ({"gamma": -0.1}, r"`gamma` is -0.1.*\[0, 1\]"),
        ({"gamma": 2}, "`gamma` is 2"),
        ({"rel_warmup_steps": -1}, "`rel_warmup_steps` is -1"),
        ({"strategy": "signal"}, "`signal` is not set"),
        (
            {"signal": "loss"},
            "`signal` is 'loss', which `strategy` 'sstoken' .* ignore: remove it, or choose .*`strategy` 'signal'",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SSTokenConfig(**options)


def test_forward_before_attach_is_refused(model, batch):
    with pytest.raises(RuntimeError, match=r"TokenSelector.attach\(model\)"):
        TokenSelector(SSTokenConfig()).forward(model, batch, step=0)


def break_adapter(model):
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_B" in name).fill_(torch.nan)


def test_log_probs_that_are_not_finite_stop_the_run(model, batch):
    selector = attached(model)
    selector.forward(model, batch, step=0)
    break_adapter(model)
    tokens = batch["input_ids"][0].tolist()
    selector.forward(model, batch, step=9)
    with pytest.raises(
        FloatingPointError, match=r"The current model's .* is nan in step 9, row 0, position 4"
    ) as error:
        selector.step_end(10)
    assert f"begins with token ids {tokens})" in str(error.value)


def test_a_history_that_is_not_finite_stops_the_run(model, lora, batch, tmp_path):
    lora(tiny("llama"), seed=2).save_pretrained(tmp_path)
    selector = attached(model, history="adapter", history_adapter=str(tmp_path))
    for name, parameter in model.named_parameters():
        if "lora_B.sstoken_history" in name:
            parameter.data.fill_(1e30)
    selector.forward(model, batch, step=0)
    with pytest.raises(FloatingPointError, match=r"The history model's .* is nan in step 0, row 0, position 4"):
        selector.step_end(1)


def test_a_batch_without_any_response_trains_on(model, batch):
    selector = attached(model)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    forward, selection = selector.forward(model, batch, step=0)
    loss = weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch))
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in model.parameters() if p.requires_grad)
    assert selector.metrics.drain() == {}


def test_describe_names_what_a_resumed_run_must_share(model):
    assert attached(model, rho=0.3).describe() != attached(model, rho=0.4).describe()
    assert attached(model).describe() == attached(model).describe()
