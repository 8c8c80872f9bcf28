"""A reference beside the history, and an anchor, in a YAML."""

from __future__ import annotations

from .conftest import losses, train


def test_an_adapter_and_an_anchor(settings, adapters):
    block = {"strategy": "rho1", "reference_adapter": str(adapters[1]), "anchor": "k3"}
    trainer = train(settings, sstoken=block, max_steps=2, sample_packing=True, micro_batch_size=1)
    assert len(losses(trainer)) == 2
    assert not any("sstoken_history" in name for name in trainer.model.state_dict())
