"""The object that integrations talk to, used as a plain training loop uses it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from sstoken_plugins import (
    keep_count,
    select_tokens,
    weighted_nll,
)

from .selectors import attached, naive_weights
from .tiny import VOCABULARY, tiny

pytestmark = pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")


def passes_of(model):
    """A list that grows by one entry with every forward pass: whether gradients were on."""
    passes: list[bool] = []
    model.get_input_embeddings().register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    return passes


@pytest.mark.parametrize(("rho", "gamma"), [(0.6, 0.5), (0.3, 1.0), (0.5, 0.0)])
def test_a_plain_training_loop_takes_the_naive_step(model, lora, batch, rho, gamma):
    weights = naive_weights(model, batch, rho, gamma)
    reference = lora(tiny("llama")).train()
    logits = reference(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    losses = cross_entropy(logits[:, :-1].flatten(0, 1), batch["input_ids"][:, 1:].flatten(), reduction="none")
    expected = (losses * weights[:, 1:].flatten()).sum() / weights.sum()
    expected.backward()

    selector = attached(model, rho=rho, gamma=gamma)
    total = 0.0
    micro_batches = [{name: value[i : i + 1] for name, value in batch.items()} for i in range(2)]
    denominator = sum(selector.denominator(micro_batch) for micro_batch in micro_batches)
    assert denominator == weights.sum()
    for i, micro_batch in enumerate(micro_batches):
        forward, selection = selector.forward(model, micro_batch, step=0)
        assert torch.equal(selection.weights, weights[i : i + 1])
        loss = weighted_nll(forward.log_probs, selection.weights, denominator)
        loss.backward()
        total += loss.item()
    selector.step_end(1)

    assert total == pytest.approx(expected.item(), abs=1e-5)
    gradients = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, gradients[name].grad, atol=1e-5, rtol=1e-4)


def test_a_selector_and_plain_tensors_agree(model, batch):
    _, selection = attached(model).forward(model, batch, step=0)
    scores = selection.measured
    weights = select_tokens(
        batch["labels"],
        log_probs=scores.log_probs,
        history_log_probs=scores["history"],
        attention=scores["attention"],
        attention_mask=batch["attention_mask"],
    )
    assert torch.equal(weights, selection.weights)
    assert torch.equal(selection.kept | selection.dropped, selection.documents.response)
    assert not (selection.kept & selection.dropped).any()


def test_training_learns(model, batch):
    selector = attached(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for step in range(12):
        forward, selection = selector.forward(model, batch, step)
        loss = weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        selector.step_end(step + 1)
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    metrics = selector.metrics.drain()
    assert set(metrics) == {
        f"sstoken/{name}" for name in
        ("keep_rate", "loss_all", "without_prompt", "rel_kept", "rel_dropped", "attention_kept", "attention_dropped")
    }  # fmt: skip
    kept, response = selector.denominator(batch), selection.documents.response.sum()
    assert metrics["sstoken/keep_rate"] == pytest.approx((kept / response).item())
    assert selector.metrics.drain() == {}


def test_metrics_are_means_over_tokens_and_not_over_micro_batches(model, batch):
    selector, rel = attached(model, gamma=1.0), []
    for i in range(2):
        _, selection = selector.forward(model, {name: value[i : i + 1] for name, value in batch.items()}, step=0)
        rel += selection.signals["rel"][selection.kept].tolist()
    assert selector.metrics.drain()["sstoken/rel_kept"] == pytest.approx(sum(rel) / len(rel))


# What is computed


def test_only_what_the_score_needs_is_computed(model, batch):
    stories = {
        (("gamma", 0.5),): [False, True],
        (("gamma", 1.0),): [False, True],
        (("gamma", 0.0),): [True],
        (("strategy", "random"),): [True],
        (("strategy", "full"),): [True],
        (("strategy", "signal"), ("signal", "loss")): [True],
        (("strategy", "signal"), ("signal", "rel")): [False, True],
        (("strategy", "signal"), ("signal", "attention")): [True],
    }
    passes = passes_of(model)
    for options, expected in stories.items():
        selector = attached(model, **dict(options))
        selector.forward(model, batch, step=0)  # the first one compares with the model's own logits
        passes.clear()
        _, selection = selector.forward(model, batch, step=0)
        assert passes == expected, options
        attends = dict(options).get("gamma", 1) < 1 or dict(options).get("signal") == "attention"
        assert (selection.measured.get("attention") is not None) == attends
        assert (selector.history is not None) == (len(expected) == 2)


def test_gamma_0_needs_no_adapter_and_gamma_1_no_attention_interface(batch):
    model = tiny("llama")
    assert attached(model, gamma=0.0).forward(model, batch, step=0)[1].kept.any()
    with pytest.raises(ValueError, match="the model has no adapter"):
        attached(model, gamma=0.5, history="base")


def test_gamma_1_serves_architectures_without_the_attention_interface(lora, batch):
    model = lora(tiny("bloom", "eager"), target_modules=["query_key_value"])
    assert attached(model, gamma=1.0).forward(model, batch, step=0)[1].kept.any()
    with pytest.raises(ValueError, match="BloomForCausalLM does not run its attention"):
        attached(model, gamma=0.5)


def test_rel_joins_the_score_after_the_warm_up(model, batch):
    selector, passes = attached(model, rel_warmup_steps=3), passes_of(model)
    selector.forward(model, batch, step=0)
    kept = {}
    for step in range(5):
        passes.clear()
        _, selection = selector.forward(model, batch, step)
        kept[step] = selection.weights
        assert passes == ([True] if step < 3 else [False, True])
        assert ("rel" in selection.signals) == (step >= 3)
    assert torch.equal(kept[2], attached(model, gamma=0.0).forward(model, batch, 2)[1].weights)
    assert torch.equal(kept[3], attached(model).forward(model, batch, 3)[1].weights)
    selector.metrics.drain()


def test_scores_are_those_without_dropout(lora, batch):
    plain = lora(tiny("llama")).train()
    dropping = lora(tiny("llama", attention_dropout=0.3), lora_dropout=0.4).train()
    _, expected = attached(plain).forward(plain, batch, step=0)
    selector, passes = attached(dropping), passes_of(dropping)
    forward, selection = selector.forward(dropping, batch, step=0)
    passes.clear()
    _, again = selector.forward(dropping, batch, step=0)
    for chosen in (selection, again):
        assert torch.equal(chosen.measured.log_probs, expected.measured.log_probs)
        assert torch.equal(chosen.measured["history"], expected.measured["history"])
        assert torch.equal(chosen.measured["attention"], expected.measured["attention"])
        assert torch.equal(chosen.weights, expected.weights)
    assert passes == [False, False, True]
    assert not torch.allclose(forward.log_probs, selection.measured.log_probs), "the training pass keeps its dropout"
    assert dropping.config.attention_dropout == 0.3


# The strategies beside ssToken


def test_full_is_plain_cross_entropy(model, batch):
    selector = attached(model, strategy="full")
    forward, selection = selector.forward(model, batch, step=0)
    loss = weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch))
    torch.testing.assert_close(loss, model(**batch).loss)


def rows(documents):
    """A right-padded batch of these documents, each (prompt, response)."""
    width = max(len(prompt) + len(response) for prompt, response in documents)
    ids, labels = torch.zeros(len(documents), width).long(), torch.full((len(documents), width), -100)
    mask = torch.zeros_like(ids)
    for row, (prompt, response) in enumerate(documents):
        n, m = len(prompt), len(prompt) + len(response)
        ids[row, :m], mask[row, :m], labels[row, n:m] = torch.tensor(prompt + response), 1, torch.tensor(response)
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def test_random_keeps_the_right_number_and_depends_on_the_document_alone(model):
    generator = torch.Generator().manual_seed(0)

    def some(n):
        return torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()

    documents = [(some(n), some(m)) for n, m in [(3, 9), (5, 14), (2, 5), (4, 20)]]

    def kept(batch, step=1, seed=0):
        _, selection = attached(model, strategy="random", seed=seed).forward(model, batch, step)
        return selection.weights[batch["labels"] != -100].tolist()

    together = rows(documents)
    expected = kept(together)
    counts = [sum(kept(rows([d]))) for d in documents]
    assert counts == keep_count(torch.tensor([len(m) for _, m in documents]), 0.6).tolist()
    assert [weight for d in documents for weight in kept(rows([d]))] == expected
    assert kept(rows(documents[:2])) + kept(rows(documents[2:])) == expected
    assert kept({name: torch.nn.functional.pad(value, (4, 0), value=-100 if name == "labels" else 0)
                 for name, value in together.items()}) == expected  # fmt: skip
    lengths = [len(p) + len(r) for p, r in documents]
    packed = {
        "input_ids": torch.tensor([[t for p, r in documents for t in p + r]]),
        "labels": torch.tensor([[t for p, r in documents for t in [-100] * len(p) + r]]),
        "position_ids": torch.tensor([[i for n in lengths for i in range(n)]]),
    }
    assert kept(packed) == expected
    assert kept(together) == expected
    assert kept(together, step=2) != expected
    assert kept(together, seed=1) != expected


def test_random_is_even_over_places(model):
    """Every token of a document is kept equally often over the steps, even where all tokens are the same."""
    selector = attached(model, strategy="random", rho=0.5)
    batch = rows([([5, 5], [5] * 10)])
    steps = 400
    kept = sum(selector.forward(model, batch, step)[1].weights for step in range(steps))[0, 2:] / steps
    assert kept.mean() == pytest.approx(0.5)
    assert (kept - 0.5).abs().max() < 5 * math.sqrt(0.25 / steps)


def test_signal_keeps_the_highest(model, batch):
    _, selection = attached(model, strategy="signal", signal="loss", rho=0.4).forward(model, batch, step=0)
    losses = -selection.measured.log_probs
    for row in range(2):
        assert losses[row][selection.kept[row]].min() > losses[row][selection.dropped[row]].max()
