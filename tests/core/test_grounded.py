"""`grounded`: answers that their prompt makes no likelier do not train, in any layout of the batch."""

from __future__ import annotations

import math

import pytest
import torch

from sstoken_plugins import MicroBatch, SSTokenConfig, TokenSelector
from sstoken_plugins.measure.unprompted import HEADER, without_prompts
from sstoken_plugins.run.recording import Recorder

from . import oracle
from .layouts import LAYOUTS, documents, laid_out
from .tiny import VOCABULARY, tiny

pytestmark = pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")

GUESS = 1 / VOCABULARY


def attached(model, **options) -> TokenSelector:
    selector = TokenSelector(SSTokenConfig(**options))
    selector.attach(model)
    return selector


@pytest.fixture
def model(lora):
    return lora(tiny("llama")).train()


def probabilities(model, tokens):
    """Of every token but the first, under the base model."""
    ids = torch.tensor([tokens])
    with torch.no_grad(), model.disable_adapter():
        return oracle.read_logits(model(input_ids=ids).logits, ids)[0][0].exp().tolist()


def naive_gain(model, tokens, response):
    """One document at a time: take out of the prompt what is not within four tokens before a response token."""
    stays = [i for i in range(len(tokens)) if response[i] or any(response[i + 1 : i + 1 + HEADER])]
    if len(stays) == len(tokens):
        return [0.0] * sum(response)
    here, there = probabilities(model, tokens), probabilities(model, [tokens[i] for i in stays])
    return [math.log(here[i] + GUESS) - math.log(there[stays.index(i)] + GUESS) for i in stays if response[i]]


@pytest.mark.parametrize("helped", [True, False], ids=["loader", "alone"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gain_is_what_each_document_alone_gives(model, layout, helped):
    batch = laid_out(layout)
    selector = attached(model, strategy="signal", signal="prompt_gain")
    if helped:
        selector.lookup(batch)
    _, selection = selector.forward(model, batch, step=0)
    expected = [gain for document in documents() for gain in naive_gain(model, *document)]
    ours = selection.signals["prompt_gain"][selection.documents.response]
    torch.testing.assert_close(ours, torch.tensor(expected), rtol=0, atol=1e-5)
    assert ours.abs().max() > 0.1


@pytest.mark.parametrize("loss", ["own", "framework"])
def test_whole_answers_are_dropped_and_noise_within_the_others(model, loss):
    batch, kept = laid_out("right"), []
    for tokens, response in documents():
        gains = naive_gain(model, tokens, response)
        likely = [p > GUESS for p, r in zip(probabilities(model, tokens), response, strict=True) if r]
        kept += [likely_one and sum(gains) >= 0 for likely_one in likely]
    selector = attached(model, strategy="grounded", trim=1.0, loss=loss)
    if loss == "own":
        _, selection = selector.forward(model, batch, step=0)
    else:
        _, selection = selector.filtered_labels(model, batch, step=0)
    assert selection.kept[selection.documents.response].tolist() == kept
    by_document = [sum(kept[start:end]) for start, end in ((0, 6), (6, 13), (13, 18), (18, 24), (24, 29))]
    assert 0 in by_document, "no answer is dropped as a whole"
    assert by_document[2] * by_document[3] > 0, "a document without a prompt was judged by it"
    assert torch.equal(selector.inspect(model, batch, step=0).kept, selection.kept)


def test_what_is_learned_does_not_change_the_choice(model, lora):
    batch, later = laid_out("right"), lora(tiny("llama"), seed=7).train()
    _, first = attached(model, strategy="grounded", trim=1.0).forward(model, batch, step=0)
    _, other = attached(later, strategy="grounded", trim=1.0).forward(later, batch, step=9)
    assert torch.equal(first.weights, other.weights)


def test_a_batch_without_a_response(model):
    batch = laid_out("right")
    batch["labels"][:] = -100
    _, selection = attached(model, strategy="grounded", trim=1.0).forward(model, batch, step=0)
    assert not selection.weights.any()


def test_entries_of_a_batch_go_with_their_tokens_or_are_refused_by_name():
    batch = laid_out("right")
    kinds = torch.arange(batch["labels"].numel()).view_as(batch["labels"])
    whole = MicroBatch.of({**batch, "token_type_ids": kinds, "num_items_in_batch": torch.tensor(3)})
    rest, documents = without_prompts(whole), whole.documents
    left, response = rest.batch.inputs, rest.batch.documents.response
    assert not rest.batch.from_data
    assert torch.equal(left["token_type_ids"][response], kinds[documents.response])
    assert torch.equal(left["labels"][response], batch["labels"][documents.response])
    assert torch.equal(rest.back(left["token_type_ids"])[documents.response], kinds[documents.response])
    assert left["input_ids"].shape[1] < batch["input_ids"].shape[1]
    way_out = "one that does not compare answers with and without their prompt"
    with pytest.raises(ValueError, match=rf"'pixel_values' of shape \(5, 3\).*{way_out}"):
        without_prompts(MicroBatch.of({**batch, "pixel_values": torch.zeros(5, 3)}))


@pytest.mark.parametrize("layout", [*LAYOUTS, "single"])
def test_recorded_once_it_costs_no_pass(model, layout, tmp_path):
    """And in whatever layout it was recorded."""
    options = {
        "strategy": "grounded",
        "trim": 1.0,
        "history": "recorded",
        "history_store": str(tmp_path),
        "history_record": True,
    }
    recorder = attached(model, **options)
    (first, response), *_ = documents()
    alone = {
        "input_ids": torch.tensor([first]),
        "labels": torch.where(torch.tensor([response]), torch.tensor([first]), -100),
    }
    assert recorder.record(model, laid_out("right"), recorder.recorder()) == 5
    recorder.history.store.flush()
    batch = alone if layout == "single" else laid_out(layout)
    assert recorder.record(model, batch, recorder.recorder()) == 0
    live, recorded = attached(model, strategy="grounded", trim=1.0), attached(model, **options)
    _, expected = live.forward(model, batch, step=0)
    model.disable_adapter_layers()  # what is read from the store does not ask the model
    recorded.lookup(batch)
    _, selection = recorded.forward(model, batch, step=0)
    for name in ("prompt_gain", "history_plausibility"):
        torch.testing.assert_close(selection.signals[name], expected.signals[name], rtol=0, atol=1e-4)
    assert torch.equal(selection.weights, expected.weights)
    assert recorded.metrics.drain()["sstoken/history_missing"] == 0


def test_what_was_not_recorded_is_kept(tmp_path):
    """Without an adapter there is nobody to ask."""
    model = tiny("llama").train()
    options = {
        "strategy": "grounded",
        "trim": 1e-30,  # no token is noise
        "history": "recorded",
        "history_store": str(tmp_path),
        "history_record": True,
    }
    recorder = attached(model, **options)
    # The prompted half.
    recorder.record(model, laid_out("right"), Recorder(recorder.history, without_prompts=False))
    recorder.history.store.flush()
    _, selection = attached(model, **options).forward(model, laid_out("right"), step=0)
    assert torch.equal(selection.kept, selection.documents.response)


def test_a_history_that_knows_the_data_as_they_are_alone_is_refused():
    with pytest.raises(ValueError, match=r"`history` is 'last_visit', which only knows.*'ema' or 'recorded'"):
        TokenSelector(SSTokenConfig(strategy="grounded", trim=1.0, history="last_visit"))
