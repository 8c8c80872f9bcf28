"""Selectors on tiny models, and what ssToken should keep there."""

from __future__ import annotations

import torch

from sstoken_plugins import Documents, SSTokenConfig, TokenSelector

from . import oracle


def attached(model, **options) -> TokenSelector:
    selector = TokenSelector(SSTokenConfig(**options))
    selector.attach(model)
    return selector


def naive_weights(model, batch, rho=0.6, gamma=0.5):
    """From full logits, the model's own eager attention weights, and loops."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    model.eval()
    with torch.no_grad():
        model.get_base_model().set_attn_implementation("eager")
        outputs = model(**inputs, output_attentions=True)
        model.get_base_model().set_attn_implementation("sdpa")
        current, _, _ = oracle.read_logits(outputs.logits, batch["input_ids"])
        with model.disable_adapter():
            history, _, _ = oracle.read_logits(model(**inputs).logits, batch["input_ids"])
    model.train()
    prompt = Documents.from_batch(batch).prompt
    attention = (outputs.attentions[-1] * prompt[:, None, None, :]).sum(-1).mean(1)
    return oracle.select(batch["labels"], current - history, attention, rho, gamma, batch["attention_mask"])
