"""Looking at a batch shows what training on it would select, and leaves no trace."""

from __future__ import annotations

import warnings

import pytest
import torch

from sstoken_plugins import SSTokenConfig, TokenSelector, hookimpl, registry

CONFIGS = [
    SSTokenConfig(),
    SSTokenConfig(history="last_visit"),
    SSTokenConfig(history="ema", ema_alpha=0.5),
    SSTokenConfig(rel_warmup_steps=5),
    SSTokenConfig(strategy="random"),
]


def remembered(selector: TokenSelector) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in selector.state_dict().items()}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.summary())
def test_inspect_selects_as_forward_does(config, tiny_llama, lora, batch):
    model = lora(tiny_llama, lora_dropout=0.3).train()
    selector = TokenSelector(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        selector.attach(model)
    told = []

    class Observer:
        @hookimpl
        def observe(self, selection, record):
            told.append(selection)

    registry.plugin_manager().register(observer := Observer())
    try:
        for step in range(3):
            random, before = torch.get_rng_state(), remembered(selector)
            seen = selector.inspect(model, batch, step)
            assert len(told) == step
            assert torch.equal(torch.get_rng_state(), random)
            assert all(parameter.grad is None for parameter in model.parameters())
            after = remembered(selector)
            assert after.keys() == before.keys()
            assert all(torch.equal(after[name], value) for name, value in before.items())
            _, trained = selector.forward(model, batch, step)
            assert torch.equal(seen.weights, trained.weights)
            if config.strategy != "random":  # which reads no log-probabilities, so that dropout stays on in training
                assert torch.equal(seen.measured.log_probs, trained.measured.log_probs)
            assert not seen.measured.log_probs.requires_grad
            selector.step_end(step + 1)
    finally:
        registry.plugin_manager().unregister(observer)
    # Three passes were recorded, not six.
    total = 3 * trained.documents.response.sum()
    assert int(selector.metrics._sums["keep_rate"][1]) == total


def test_a_look_is_no_training_step(tiny_llama, lora, batch):
    selector = TokenSelector(SSTokenConfig(gamma=0.0))
    selector.attach(model := lora(tiny_llama))
    selector.inspect(model, batch, 0)
    with pytest.raises(RuntimeError, match="was done without it"):
        selector.step_end(1)
    assert selector.metrics.drain() == {}
