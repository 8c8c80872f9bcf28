"""Histories by their options, and what a test looks at in a model that has one."""

from __future__ import annotations

import warnings

import torch

from sstoken_plugins import Documents, SSTokenConfig, TokenSelector, token_forward

BASE = SSTokenConfig(gamma=1.0, history="base")


def from_adapter(folder, **options) -> SSTokenConfig:
    return SSTokenConfig(gamma=1.0, history="adapter", history_adapter=str(folder), **options)


def attached(model, config) -> TokenSelector:
    selector = TokenSelector(config)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`history` is 'base' and training continues")
        selector.attach(model)
    return selector


def history_log_probs(selector, model, batch):
    _, selection = selector.forward(model, batch, step=0)
    return selection.measured["history"]


@torch.no_grad()
def own_log_probs(model, batch):
    return token_forward(model, batch, Documents.from_batch(batch)).log_probs


def state_of(model, modules=None):
    """Everything that a history has no business to change."""
    modules = modules or list(model.modules())
    return {
        "trainable": [name for name, p in model.named_parameters() if p.requires_grad],
        "active": model.active_adapter,
        "active of layers": [m.active_adapters for m in modules if hasattr(m, "lora_A")],
        "disabled": [m.disable_adapters for m in modules if hasattr(m, "lora_A")],
        "training": [m.training for m in modules],
        "configs": sorted(model.peft_config),
        "checkpointing": [m.gradient_checkpointing for m in modules if hasattr(m, "gradient_checkpointing")],
        "weights": {name: p.detach().clone() for name, p in model.named_parameters()},
    }


def assert_same_state(before, after):
    weights, now = before.pop("weights"), after.pop("weights")
    assert before == after
    assert weights.keys() == now.keys()
    assert all(torch.equal(weights[name], now[name]) for name in weights)
