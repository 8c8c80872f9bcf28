"""What users of single methods rely on, beyond the published losses."""

from __future__ import annotations

import pytest
import torch

from sstoken_plugins import (
    MicroBatch,
    Progress,
    Selection,
    SSTokenConfig,
    TokenSelector,
    all_options,
    listing,
    registry,
    weighted_nll,
)
from sstoken_plugins.measure import Measurements

from ..core.layouts import laid_out
from ..core.tiny import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")


@pytest.fixture
def model(lora):
    return lora(tiny("llama")).train()


def attached(model, **options) -> TokenSelector:
    selector = TokenSelector(SSTokenConfig(**options))
    selector.attach(model)
    return selector


def passes(model, selector, step: int = 0) -> int:
    """How often a step runs the model, after the first, which also compares the head with the model's logits."""
    selector.forward(model, laid_out("right"), step)
    calls = []
    hook = model.register_forward_pre_hook(lambda *_: calls.append(1))
    selector.forward(model, laid_out("right"), step)
    hook.remove()
    return len(calls)


@pytest.mark.parametrize(
    "strategy",
    ["dft", "power", "infosft", "profit", "eaft", "deft", "talr", "memft", "cadft", "loss_truncation", "q_tuning"],
)
def test_what_reads_the_current_model_alone_runs_it_once(model, strategy):
    assert passes(model, attached(model, strategy=strategy)) == 1
    assert "pass" not in listing.cost(registry.lookup("method", strategy))


@pytest.mark.parametrize("strategy", ["prift", "stm", "flow", "iw_sft", "minor_sft", "npo"])
def test_a_recorded_history_saves_the_second_pass(model, tmp_path, strategy):
    assert passes(model, attached(model, strategy=strategy)) == 2
    store = {"history": "recorded", "history_store": str(tmp_path / "store"), "history_record": True}
    selector = attached(model, strategy=strategy, **store)
    selector.record(model, laid_out("right"), selector.recorder())
    selector.history.store.flush()
    selector.history.refresh()
    assert passes(model, selector) == 1


@pytest.mark.parametrize("history", ["recorded", "last_visit"])
def test_stores_do_not_know_whole_distributions(tmp_path, history):
    more = {"history_store": str(tmp_path), "history_record": True} if history == "recorded" else {}
    with pytest.raises(ValueError, match=f"`history` is '{history}', which keeps the log-probability of each label"):
        TokenSelector(SSTokenConfig(strategy="prift", by="mass", history=history, **more))


def test_a_reference_that_is_not_the_published_one_is_refused():
    with pytest.raises(ValueError, match=r"`strategy` is 'psft', which is defined against a copy .* 'snapshot'"):
        TokenSelector(SSTokenConfig(strategy="psft"))


def test_a_bar_is_a_probability_or_a_loss():
    assert SSTokenConfig(strategy="memft", threshold=1.5).threshold == 1.5
    with pytest.raises(ValueError, match="for profit it is a probability"):
        SSTokenConfig(strategy="profit", threshold=1.5)
    assert all_options()["threshold"].owners == {"method profit": 0.1, "method memft": pytest.approx(0.6931, abs=1e-4)}


def test_without_a_history_a_token_counts_as_what_the_model_says_now(model):
    """In the first epoch of `last_visit`, PriFT is DFT and STM judges by the model in training."""
    batch = laid_out("right")
    _, dft = attached(model, strategy="dft").forward(model, batch, 0)
    _, prift = attached(model, strategy="prift", history="last_visit").forward(model, batch, 0)
    torch.testing.assert_close(prift.weights, dft.weights)
    _, stm = attached(model, strategy="stm", history="last_visit", perplexity=40.0).forward(model, batch, 0)
    assert torch.equal(stm.kept, dft.documents.response & (dft.weights >= 1 / 40.0))


def test_unlearning_unlearns_and_stops(model):
    batch = laid_out("right")
    selector = attached(model, strategy="npo", beta=0.5)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    sums, sizes = [], []
    for step in range(12):
        forward, selection = selector.forward(model, batch, step)
        weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch, step)).backward()
        optimizer.step()
        optimizer.zero_grad()
        selector.step_end(step + 1)
        sums.append(float(selection.measured.log_probs.sum()))
        sizes.append(float(selection.weights.abs().sum()))
    assert sums[-1] < sums[0] - 10
    assert sizes[-1] < sizes[0] / 2


def many(n: int, seed: int) -> tuple[MicroBatch, dict[str, torch.Tensor]]:
    """Samples of ten response tokens with losses and entropies of their own, one in a row."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.full((n, 12), 5)
    labels[:, :2] = -100
    hard, unsure = torch.rand(2, n, 1, generator=generator)
    loss = 4 * hard + torch.rand(n, 12, generator=generator)
    entropy = 4 * (0.7 * hard + 0.3 * unsure) + torch.rand(n, 12, generator=generator)
    return MicroBatch.of({"input_ids": labels.clamp(min=0), "labels": labels}), {"loss": loss, "entropy": entropy}


def select(method, batch, signals, step) -> torch.Tensor:
    """A step of a method on made-up signals."""
    documents = batch.documents
    weights = torch.where(documents.response, method.weights(signals, documents, Progress(step)), 0)
    method.observe(Selection(Measurements(batch, Progress(step), 61, {}), signals, weights))
    method.step_end(Progress(step + 1), lambda mine: mine)
    return weights


@pytest.mark.parametrize("samples", [0.125, 0.5, 0.8])
def test_q_tuning_keeps_the_wanted_share_and_spares_calibration(samples):
    config = SSTokenConfig(strategy="q_tuning", samples=samples, tokens=0.7, neighbours=0.0)
    method = TokenSelector(config).method
    for step in range(2):
        assert select(method, *many(400, step), step).sum() == 4000
    for step in range(2, 5):
        batch, signals = many(400, step)
        weights = select(method, batch, signals, step)
        kept = weights.sum(1)
        assert set(kept.tolist()) <= {0.0, 7.0, 10.0}
    assert (kept > 0).float().mean().item() == pytest.approx(samples, abs=0.06)
    loss, entropy = (signals[name][:, 2:].mean(1) for name in ("loss", "entropy"))
    rank = [values.argsort().argsort() / len(values) for values in (loss, entropy)]
    clear = (rank[0] - rank[1]).abs() > 0.15
    misconception = rank[0] > rank[1]
    assert (kept[clear & misconception & (kept > 0)] == 7).all()
    assert (kept[clear & ~misconception & (kept > 0)] == 10).all()
    # What is extreme in the same way is not kept before what is extreme in opposite ways.
    opposite = torch.maximum(torch.minimum(rank[0], 1 - rank[1]), torch.minimum(rank[1], 1 - rank[0]))
    assert opposite[kept > 0].mean() > opposite[kept == 0].mean()
    row = int((clear & misconception & (kept > 0)).nonzero()[0])
    best = signals["loss"][row, 2:].topk(7).indices
    assert weights[row, 2:][best].sum() == 7


def test_the_hardest_samples_are_left_out_once_enough_were_seen():
    method = TokenSelector(SSTokenConfig(strategy="loss_truncation", drop=0.3, hot_start=1000)).method
    kept = [select(method, *many(400, step), step).any(1) for step in range(5)]
    assert [each.all().item() for each in kept] == [True, True, True, False, False]
    assert kept[-1].float().mean().item() == pytest.approx(0.7, abs=0.05)
    loss = many(400, 4)[1]["loss"][:, 2:].mean(1)
    assert loss[kept[-1]].max() < loss[~kept[-1]].min()
    assert "do not train" in method.notes(Progress(5))[0]
