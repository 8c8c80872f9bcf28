"""A step by each method is the step of the published loss, whatever the layout of the batch."""

from __future__ import annotations

import pytest
import torch

from sstoken_plugins import SSTokenConfig, TokenSelector, weighted_nll

from ..core.layouts import documents, laid_out
from ..core.tiny import tiny
from . import published

pytestmark = pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")

CASES = [
    ("dft", {}),
    ("power", {"alpha": 1.0}),
    ("power", {"alpha": 0.3}),
    ("infosft", {}),
    ("infosft", {"p_bar": 0.6}),
    ("profit", {"threshold": 0.02}),
    ("profit", {"threshold": 0.02, "side": "below"}),
    ("prift", {}),
    ("prift", {"by": "mass"}),
    ("prift", {"by": "mass", "mass": 0.2}),
    ("stm", {"perplexity": 40.0}),
    ("eaft", {}),
    ("eaft", {"alpha": 2.0, "top_k": 5, "scale": 1.0}),
    ("deft", {}),
    ("talr", {"tau": 3.0}),
    ("flow", {"tau": 4.0}),
    ("psft", {}),
    ("iw_sft", {}),
    ("iw_sft", {"temperature": 2.0, "cap": 1.2}),
    ("iw_sft", {"per": "token"}),
    ("minor_sft", {}),
    ("minor_sft", {"form": "sum", "beta": 0.3}),
    ("npo", {}),
    ("npo", {"beta": 0.5}),
    ("memft", {"threshold": 4.0}),
]
# Published with numbers of the batch, which here are those of earlier steps: the same once a batch was seen before.
SEEN_BEFORE = [
    ("talr", {}, {}),
    ("flow", {}, {}),
    ("cadft", {}, {}),
    ("cadft", {"beta": 0.3}, {}),
    ("loss_truncation", {}, {"hot_start": 0}),
    ("loss_truncation", {"drop": 0.7}, {"hot_start": 5}),
]
HISTORY = {"psft": {"history": "snapshot", "refresh_steps": 8.0}}
ROUNDING = 3e-6
"""Of float32, between a document in a batch and the document alone."""
LAYOUTS = {"padded": ("right", [5]), "padded left, in two": ("left", [2, 3]), "packed": ("packed", [5]),
           "padding-free, in two": ("padding-free", [3, 2])}  # fmt: skip


def make(lora, strategy, options):
    """A selector and its model, which has learned something since the history."""
    model = lora(tiny("llama")).train()
    selector = TokenSelector(SSTokenConfig(strategy=strategy, **HISTORY.get(strategy, {}), **options))
    selector.attach(model)
    if strategy in HISTORY:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in trainable(model):
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return selector, model


def trainable(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def answers(lora, model, strategy):
    """What the published losses are made of: each document alone, by full logits."""
    history = lora(tiny("llama")).train()
    if strategy not in HISTORY:
        history.disable_adapter_layers()
    found = []
    for tokens, trains in documents():
        ids = torch.tensor([tokens])
        response = [t for t in range(1, len(tokens)) if trains[t]]
        before = [t - 1 for t in response]
        with torch.no_grad():
            past = history(ids).logits[0, before]
        found.append(published.Answer(model(ids).logits[0, before], past, ids[0, response]))
    return [answer for answer in found if len(answer.labels)]


def gradient(model) -> torch.Tensor:
    gradients = torch.cat([parameter.grad.flatten() for parameter in trainable(model)])
    for parameter in model.parameters():
        parameter.grad = None
    return gradients


def step(selector, model, layout, number=0):
    layout, split = LAYOUTS[layout]
    some, batches = documents(), []
    for size in split:
        batches.append(laid_out(layout, some[:size]))
        some = some[size:]
    denominator = sum(selector.denominator(batch, number) for batch in batches)
    total = 0.0
    for batch in batches:
        forward, selection = selector.forward(model, batch, number)
        loss = weighted_nll(forward.log_probs, selection.weights, denominator)
        loss.backward()
        total += loss.item()
    selector.step_end(number + 1)
    return total, gradient(model), selection


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize(("strategy", "options"), CASES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_is_that_of_the_published_loss(lora, strategy, options, layout):
    selector, model = make(lora, strategy, options)
    getattr(published, strategy)(answers(lora, model, strategy), **options).backward()
    expected = gradient(model)
    _, ours, selection = step(selector, model, layout)
    assert relative(ours, expected) < ROUNDING
    if selector.method.selects or options.get("by") == "mass":
        assert selection.kept.any(), "the case shows nothing"
        assert selection.dropped.any(), "the case shows nothing"


@pytest.mark.parametrize(("strategy", "options", "more"), SEEN_BEFORE, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_earlier_steps_stand_for_the_batch(lora, strategy, options, more, layout):
    """To within the bins of the histogram, 0.004 nats, and exactly where the weights are 0 and 1."""
    selector, model = make(lora, strategy, {**options, **more})
    _, first, _ = step(selector, model, layout)
    getattr(published, strategy)(answers(lora, model, strategy), **options).backward()
    expected = gradient(model)
    assert relative(first, expected) > 0.1, "the case shows nothing"
    _, ours, _ = step(selector, model, layout, number=1)
    assert relative(ours, expected) < (ROUNDING if selector.method.selects else 3e-3)


@pytest.mark.parametrize("alpha", [0.0, 1e-3])
def test_a_power_of_nothing_is_plain_fine_tuning(lora, alpha):
    selector, model = make(lora, "power", {"alpha": alpha})
    published.over_tokens(answers(lora, model, "power"), lambda answer: answer.nll).backward()
    expected = gradient(model)
    _, ours, _ = step(selector, model, "packed")
    assert relative(ours, expected) < (ROUNDING if alpha == 0 else 1e-2)
