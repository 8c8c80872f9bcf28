"""`trimmed` and `sstoken_trimmed`: what the history model finds no likelier than a uniform guess does not train."""

from __future__ import annotations

import math

import pytest
import torch

from sstoken_plugins import Documents, Progress, SSTokenConfig, TokenSelector, weighted_nll
from sstoken_plugins.methods.sstoken import SSToken, SSTokenOptions

from . import oracle
from .tiny import VOCABULARY, tiny

pytestmark = pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")


def attached(model, **options) -> TokenSelector:
    selector = TokenSelector(SSTokenConfig(**options))
    selector.attach(model)
    return selector


@pytest.fixture
def model(lora):
    return lora(tiny("llama")).train()


def base_log_probs(model, batch):
    with torch.no_grad(), model.disable_adapter():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return oracle.read_logits(logits, batch["input_ids"])[0]


@pytest.mark.parametrize("trim", [1.0, 0.2])
def test_what_is_no_likelier_than_a_uniform_guess_is_dropped(model, batch, trim):
    expected = Documents.from_batch(batch).response & (base_log_probs(model, batch).exp() > trim / VOCABULARY)
    _, selection = attached(model, strategy="trimmed", trim=trim).forward(model, batch, step=0)
    assert torch.equal(selection.kept, expected)
    assert selection.kept.any()
    assert selection.dropped.any()


def test_a_trim_of_nothing_is_plain_fine_tuning_and_plain_sstoken(model, batch):
    for trimmed, other in (("trimmed", "full"), ("sstoken_trimmed", "sstoken")):
        _, ours = attached(model, strategy=trimmed, trim=1e-30).forward(model, batch, step=0)
        selector = attached(model, strategy=other)
        _, theirs = selector.forward(model, batch, step=0)
        assert torch.equal(ours.weights, theirs.weights)
        assert attached(model, strategy=trimmed).denominator(batch) == selector.denominator(batch)


@pytest.mark.parametrize("rho", [0.3, 1.0])
def test_sstoken_trimmed_keeps_the_best_of_what_is_left(model, batch, rho):
    selector = attached(model, strategy="sstoken_trimmed", rho=rho, trim=1.0)
    _, selection = selector.forward(model, batch, step=0)
    plausible = selection.documents.response & (base_log_probs(model, batch) > -math.log(VOCABULARY))
    assert not (selection.kept & ~plausible).any()
    # The same as ssToken on data where the implausible tokens have no label, where rho leaves some of them out.
    score = SSToken(SSTokenOptions(rho=rho)).score(
        selection.signals, Documents(selection.documents.ids, selection.documents.prompt, plausible), Progress(0)
    )
    for row in range(2):
        k = min(int(plausible[row].sum()), math.ceil(rho * int(selection.documents.response[row].sum())))
        best = torch.where(plausible[row], score[row], -1).topk(k).indices
        assert set(best.tolist()) == set(selection.kept[row].nonzero().flatten().tolist())


def test_noise_in_the_answers_is_not_learned(lora):
    """A model that knows how to count sees answers that count and answers with noise in them."""
    generator = torch.Generator().manual_seed(0)
    counting = (torch.randint(3, VOCABULARY, (48, 1), generator=generator) + torch.arange(12)) % (VOCABULARY - 3) + 3
    model = tiny("llama")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        model(input_ids=counting, labels=counting).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    spoiled = torch.rand(counting.shape, generator=generator) < 0.15
    spoiled[:, :4] = False
    ids = torch.where(spoiled, torch.randint(3, VOCABULARY, counting.shape, generator=generator), counting)
    labels = ids.clone()
    labels[:, :4] = -100
    model = lora(model).train()
    _, selection = attached(model, strategy="trimmed").forward(model, {"input_ids": ids, "labels": labels}, step=0)
    assert spoiled[selection.dropped].float().mean() > 2 * spoiled[:, 4:].float().mean()
    assert selection.dropped.sum() > 20


def test_it_trains_where_everything_is_noise(model, batch):
    selector = attached(model, strategy="trimmed", trim=1e30)
    forward, selection = selector.forward(model, batch, step=0)
    loss = weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch))
    loss.backward()
    assert loss == 0
    assert not selection.kept.any()


def test_judged_by_the_current_model_it_needs_no_history(model, batch):
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    likely = oracle.read_logits(logits, batch["input_ids"])[0].exp() > 1 / VOCABULARY
    selector = attached(model, strategy="trimmed", trim=1.0, trim_by="current")
    _, selection = selector.forward(model, batch, step=0)
    assert selector.history is None
    assert torch.equal(selection.kept, selection.documents.response & likely)


def test_an_impossible_trim_is_refused():
    with pytest.raises(ValueError, match=r"`trim` is 0.*set it above 0"):
        SSTokenConfig(strategy="trimmed", trim=0.0)
    with pytest.raises(ValueError, match=r"`trim_by` is 'past': set it to 'history' or 'current'"):
        SSTokenConfig(strategy="trimmed", trim_by="past")
