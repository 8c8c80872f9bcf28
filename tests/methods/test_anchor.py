"""`anchor: k3` adds the gradient of an estimate of the divergence from the history, to any method."""

from __future__ import annotations

import pytest
import torch

from sstoken_plugins import Refused, SSTokenConfig, TokenSelector
from sstoken_plugins.run.anchor import k3_weights

from ..core import references
from ..core.layouts import documents, laid_out
from ..core.tiny import tiny
from .test_parity import LAYOUTS, ROUNDING, gradient, relative, trainable
from .test_reference import nll, selector_for, step

pytestmark = pytest.mark.filterwarnings("ignore:`history` is '.*' and training continues")


def k3(model, weight):
    """Sum over all response tokens of `weight * (q/p - log(q/p) - 1)`, by autograd, and their number."""
    total, n = 0.0, 0
    for document in documents():
        log_p = -nll(model, *document)
        with torch.no_grad():
            log_q = -nll(tiny("llama"), *document)
        total = total + weight * ((log_q - log_p).exp() - (log_q - log_p) - 1).sum()
        n += len(log_p)
    return total, n


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("weight", [0.03, 2.0])
def test_the_gradient_is_autograds_of_the_estimator(layout, weight):
    model = references.learned(tiny("llama"), seed=1).train()
    estimate, n = k3(model, weight)
    plain = sum(nll(model, *document).sum() for document in documents())
    ((plain + estimate) / n).backward()
    expected = gradient(model)
    selector = selector_for(model, strategy="full", anchor="k3", anchor_weight=weight, anchor_clip=1e30)
    assert relative(step(selector, model, layout), expected) < ROUNDING


def test_asft_is_dft_and_the_anchor():
    model = references.learned(tiny("llama"), seed=1).train()
    estimate, n = k3(model, 0.5)
    losses = [nll(model, *document) for document in documents()]
    ((sum((loss * (-loss).exp().detach()).sum() for loss in losses) + estimate) / n).backward()
    expected = gradient(model)
    options = {"anchor": "k3", "anchor_weight": 0.5, "anchor_clip": 1e30}
    for strategy in ("asft", "dft"):
        selector = selector_for(model, strategy=strategy, **options)
        assert relative(step(selector, model, "packed"), expected) < ROUNDING


def test_tokens_that_a_method_drops_are_held_too():
    model = references.learned(tiny("llama"), seed=1).train()
    options = {"strategy": "rho1", "reference_adapter": references.adapter()}
    alone = selector_for(model, **options)
    anchored = selector_for(references.learned(tiny("llama"), seed=1).train(), **options, anchor="k3")
    batch = laid_out("right")
    plain, held = (s.inspect(s._model, batch, 0) for s in (alone, anchored))
    response = plain.documents.response
    added = (held.weights - plain.weights)[response]
    rel = (held.measured.log_probs - held.measured["history"])[response]
    torch.testing.assert_close(added, 0.03 * ((-rel).exp() - 1).clamp(max=10))
    assert (held.weights != 0)[response].all()
    assert plain.dropped.any()
    assert not anchored.plan.selects
    assert anchored.denominator(batch) == alone.denominator(batch)
    step(anchored, anchored._model, "packed")


def test_what_the_data_unlearn_is_still_pulled_back():
    model = references.learned(tiny("llama"), seed=1).train()
    batch = laid_out("right")
    batch["sstoken_weights"] = torch.full(batch["labels"].shape, -2.0)
    held = selector_for(model, strategy="full", anchor="k3", weights="weight").inspect(model, batch, 0)
    rel = held.measured.log_probs - held.measured["history"]
    expected = -2 + 2 * 0.03 * ((-rel).exp() - 1).clamp(max=10)
    torch.testing.assert_close(held.weights, torch.where(held.documents.response, expected, 0))


def test_following_it_leads_back_to_the_history():
    """Both where the model has fallen below and where it has risen above."""
    model = references.learned(tiny("llama"), seed=1).train()
    apart = [float(k3(model, 1.0)[0].detach())]
    selector = selector_for(
        model, strategy="dft", anchor="k3", anchor_weight=1000.0, anchor_clip=10.0
    )  # the method itself hardly counts
    optimizer = torch.optim.Adam(trainable(model), lr=3e-3)
    for number in range(30):
        batch = laid_out("packed")
        forward, selection = selector.forward(model, batch, number)
        (-(selection.weights * forward.log_probs).sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        selector.step_end(number + 1)
        apart.append(float(k3(model, 1.0)[0].detach()))
    assert apart[-1] < 0.2 * apart[0]


def test_the_pull_is_bounded():
    log_p, log_q = torch.tensor([-100.0, -1.0, -0.1]), torch.tensor([-0.1, -1.0, -100.0])
    torch.testing.assert_close(k3_weights(log_p, log_q, 0.5, clip=10), torch.tensor([5.0, 0.0, -0.5]))


def test_before_the_first_step_it_changes_nothing():
    model = references.get_peft_model(tiny("llama"), references.LoraConfig(target_modules="all-linear"))
    selector = TokenSelector(SSTokenConfig(strategy="full", anchor="k3"))
    selector.attach(model)
    _, selection = selector.forward(model, laid_out("right"), 0)
    weights = selection.weights[selection.documents.response]
    torch.testing.assert_close(weights, torch.ones_like(weights), rtol=0, atol=1e-6)


def test_what_is_refused():
    with pytest.raises(Refused, match=r"`anchor_weight` is 0.1, but `anchor` is 'none'"):
        SSTokenConfig(anchor_weight=0.1)
    with pytest.raises(Refused, match="`anchor` is 'kl'"):
        SSTokenConfig(anchor="kl")
    with pytest.raises(Refused, match=r"`loss` is 'framework'|only leave tokens out"):
        TokenSelector(SSTokenConfig(strategy="full", anchor="k3", loss="framework"))
    with pytest.raises(Refused, match="`history` is 'base' but the model has no adapter"):
        selector_for(tiny("llama"), strategy="dft", anchor="k3", history="base")
