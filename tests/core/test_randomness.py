"""Whatever disturbs a training pass by chance: scores do not know of it."""

from __future__ import annotations

import pytest
import torch
from transformers.integrations.neftune import activate_neftune

from sstoken_plugins import SSTokenConfig, TokenSelector

from .tiny import tiny


def attached(model, **options) -> TokenSelector:
    selector = TokenSelector(SSTokenConfig(**options))
    selector.attach(model)
    return selector


def noisy(lora, source: str):
    """A model in training whose adapter is fresh: it is its own history."""
    architecture = "mixtral" if source == "router jitter" else "llama"
    jitter = {"router_jitter_noise": 0.5} if source == "router jitter" else {}
    dropout = {"attention_dropout": 0.3} if source == "attention dropout" else {}
    model = lora(
        tiny(architecture, **jitter, **dropout),
        learned=False,
        target_modules=["q_proj", "v_proj"],
        lora_dropout=0.3 if source == "lora dropout" else 0.0,
    )
    return model.train()


SOURCES = ["neftune", "router jitter", "attention dropout", "lora dropout", "nothing"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("loss", ["auto", "framework"])
def test_rel_is_exactly_zero_on_a_fresh_adapter(lora, batch, source, loss, caplog):
    model = noisy(lora, source)
    selector = attached(model, loss=loss)
    if source == "neftune":  # the trainer switches it on when it begins to train, after `attach`
        hook = activate_neftune(model, neftune_noise_alpha=20.0)
    learn = selector.filtered_labels if loss == "framework" else selector.forward
    for step in range(2):
        trained, selection = learn(model, batch, step)
        assert not selection.signals["rel"].any()
        assert torch.equal(selector.inspect(model, batch, step).weights, selection.weights)
        selector.step_end(step + 1)
    assert "its own logits" not in caplog.text, "the architecture is blamed for chance"
    if loss == "auto":
        difference = (trained.log_probs.detach() - selection.measured.log_probs).abs().max()
        silent = source in ("nothing", "lora dropout")  # what a fresh adapter drops is 0
        assert (difference > 1e-3) == (not silent), "the training pass itself keeps its chance"
    if source == "neftune":
        assert model.get_input_embeddings().neftune_noise_alpha == 20.0
        hook.remove()


def test_a_router_in_training_mode_is_as_before(lora, batch):
    model = noisy(lora, "router jitter")
    routers = [m for m in model.modules() if getattr(m, "jitter_noise", 0)]
    assert routers
    attached(model).forward(model, batch, step=0)
    assert all(router.jitter_noise == 0.5 and router.training for router in routers)
