"""Samples share rows only of models that keep them apart, and their scores are those that each has alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from sstoken_audit.samples import Tokens
from sstoken_audit.scorer import Scorer

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
MODELS = {
    "Llama": ({**SIZES, **HEADS}, True),
    "GPT2": ({"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}, True),
    # A window that is shorter than the samples.
    "Mistral": ({**SIZES, **HEADS, "sliding_window": 6}, True),
    # Every other layer of it is a convolution.
    "Lfm2": ({**SIZES, **HEADS, "full_attn_idxs": [1]}, False),
    "Mamba": ({**SIZES, "state_size": 8}, False),
}


def samples(number=30):
    rng = np.random.default_rng(0)
    made = []
    for _ in range(number):
        ids = rng.integers(64, size=rng.integers(2, 40)).astype(np.int32)
        made.append(Tokens(ids, np.arange(len(ids)) >= max(1, len(ids) // 3)))
    return made


def build(name, **options):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(initializer_range=0.3, **MODELS[name][0])
    return AutoModelForCausalLM.from_config(config, **options)


@pytest.mark.parametrize("batch_tokens", [100, 4096])
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_each_sample_alone(name, batch_tokens):
    model = build(name)
    scorer = Scorer(model, batch_tokens)
    assert scorer.packs == MODELS[name][1]
    for sample, scores in zip(samples(), scorer.score(samples()), strict=True):
        ids = torch.from_numpy(sample.ids).long()
        with torch.no_grad():
            log_probs = model(ids[None]).logits[0].log_softmax(-1)
        alone = [log_probs[t - 1, ids[t]].item() for t in np.flatnonzero(sample.response)]
        entropy = -(log_probs.exp() * log_probs).sum(-1)[np.flatnonzero(sample.response) - 1]
        np.testing.assert_allclose(scores.log_probs, alone, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(scores.entropy, entropy, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_in_half_precision_samples_share_rows_too(attention):
    assert Scorer(build("Llama", dtype=torch.bfloat16, attn_implementation=attention), 512).packs
    assert Scorer(build("Llama", attn_implementation=attention), 512, autocast="bf16").packs
