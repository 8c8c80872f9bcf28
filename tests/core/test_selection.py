"""The method on tensors: whatever the layout, it chooses what the one-document-at-a-time reference does."""

from __future__ import annotations

import doctest
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sstoken_plugins.methods.sstoken
from sstoken_plugins import Documents, keep_best, keep_count, minmax, select_tokens, sstoken_score, weighted_nll

from . import oracle

RHOS = [1e-6, 0.1, 0.55, 0.6, 1.0]
GAMMAS = [0.0, 0.5, 1.0]
LAYOUTS = ["right", "left", "left-with-positions", "no-mask", "packed", "packed-padded", "padding-free", "numbered"]


def document(rng: random.Random):
    """Labels of one document: turns with and without labels; sometimes no response or no prompt at all."""
    turns = [(rng.random() < 0.6, rng.randint(1, 6)) for _ in range(rng.randint(1, 4))]
    return [rng.randint(0, 50) if labelled else oracle.IGNORE for labelled, length in turns for _ in range(length)]


def batch(layout: str, documents: list[list[int]]):
    """Arguments of `select_tokens` for these documents, and (row, column) of each document's first token."""
    lengths = [len(d) for d in documents]
    if layout in ("right", "left", "left-with-positions"):
        width = max(lengths) + 2
        labels = torch.full((len(documents), width), oracle.IGNORE)
        mask = torch.zeros(labels.shape, dtype=torch.long)
        places = []
        for row, labels_of_one in enumerate(documents):
            begin = 0 if layout == "right" else width - len(labels_of_one)
            labels[row, begin : begin + len(labels_of_one)] = torch.tensor(labels_of_one)
            mask[row, begin : begin + len(labels_of_one)] = 1
            places.append((row, begin))
        inputs = {"labels": labels, "attention_mask": mask}
        if layout == "left-with-positions":  # as generation code makes them: 1 on padding
            inputs["position_ids"] = (mask.cumsum(1) - 1).masked_fill(mask == 0, 1)
        return inputs, places
    if layout == "no-mask":  # rows of one document each, cut to one length
        width = min(lengths)
        labels = torch.tensor([d[:width] for d in documents])
        return {"labels": labels}, [(row, 0) for row in range(len(documents))]
    if layout == "padding-free":
        labels = torch.tensor([[label for d in documents for label in d]])
        positions = torch.tensor([[place for length in lengths for place in range(length)]])
        begins = [sum(lengths[:i]) for i in range(len(lengths))]
        return {"labels": labels, "position_ids": positions}, [(0, begin) for begin in begins]
    half = (len(documents) + 1) // 2
    rows = [documents[:half], documents[half:]] if len(documents) > 1 else [documents]
    width = max(sum(map(len, row)) for row in rows) + (0 if layout == "packed" else 3)
    labels = torch.full((len(rows), width), oracle.IGNORE)
    numbers = torch.zeros(labels.shape, dtype=torch.long)
    positions = torch.zeros(labels.shape, dtype=torch.long)
    places = []
    for row, row_documents in enumerate(rows):
        begin = 0
        for number, d in enumerate(row_documents, start=1):
            labels[row, begin : begin + len(d)] = torch.tensor(d)
            numbers[row, begin : begin + len(d)] = number
            positions[row, begin : begin + len(d)] = torch.arange(len(d))
            places.append((row, begin))
            begin += len(d)
        positions[row, begin:] = torch.arange(width - begin)  # padding looks like a document without labels
    if layout == "numbered":
        return {"labels": labels, "attention_mask": numbers}, places
    if layout == "packed-padded":
        return {"labels": labels, "position_ids": positions, "attention_mask": (numbers > 0).long()}, places
    return {"labels": labels, "position_ids": positions}, places


def values(shape, seed: int, ties: bool):
    """Two tensors of scores; with `ties` from a few values only."""
    generator = torch.Generator().manual_seed(seed)
    if ties:
        return [torch.randint(0, 3, shape, generator=generator) / 2 for _ in range(2)]
    return [torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)]


def select(inputs, rel, attention, rho, gamma):
    return select_tokens(
        **inputs, log_probs=rel, history_log_probs=torch.zeros_like(rel), attention=attention, rho=rho, gamma=gamma
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), ties=st.booleans(), rho=st.sampled_from(RHOS), gamma=st.sampled_from(GAMMAS))
def test_every_layout_selects_what_the_reference_selects(layout, seed, ties, rho, gamma):
    rng = random.Random(seed)
    inputs, _ = batch(layout, [document(rng) for _ in range(rng.randint(1, 5))])
    rel, attention = values(inputs["labels"].shape, seed, ties)
    masks = {name: inputs.get(name) for name in ("attention_mask", "position_ids")}
    expected = oracle.select(inputs["labels"], rel, attention, rho, gamma, **masks)
    weights = select(inputs, rel, attention, rho, gamma)
    assert weights.dtype == torch.float32
    assert torch.equal(weights, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_documents_are_those_of_the_reference(layout, seed):
    rng = random.Random(seed)
    inputs, _ = batch(layout, [document(rng) for _ in range(rng.randint(1, 5))])
    labels, masks = inputs["labels"], {name: inputs.get(name) for name in ("attention_mask", "position_ids")}
    documents = Documents.from_batch(inputs)
    ids, prompt = torch.full(labels.shape, -1), torch.zeros(labels.shape, dtype=torch.bool)
    response, positions = prompt.clone(), torch.zeros_like(ids)
    n_response = torch.zeros(labels.numel(), dtype=torch.long)
    for number, (row, columns) in enumerate(oracle.documents_of(labels, **masks)):
        trained = oracle.response_of(labels, row, columns)
        n_response[number] = len(trained)
        for place, column in enumerate(columns):
            ids[row, column], positions[row, column] = number, place
            (response if column in trained else prompt)[row, column] = True
    assert torch.equal(documents.ids, ids)
    assert torch.equal(documents.prompt, prompt)
    assert torch.equal(documents.response, response)
    assert torch.equal(documents.n_response, n_response)
    assert torch.equal(documents.positions[ids >= 0], positions[ids >= 0])

    rel, _ = values(labels.shape, seed, ties=bool(seed % 2))
    scaled, expected = minmax(rel, documents), torch.zeros(labels.shape)
    for row, columns in oracle.documents_of(labels, **masks):
        if trained := oracle.response_of(labels, row, columns):
            expected[row, trained] = torch.tensor(oracle.minmax([rel[row, column] for column in trained]))
    assert torch.equal(scaled, expected)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), ties=st.booleans(), rho=st.sampled_from(RHOS), gamma=st.sampled_from(GAMMAS))
def test_the_same_documents_get_the_same_tokens_in_every_layout_and_order(seed, ties, rho, gamma):
    rng = random.Random(seed)
    documents = [document(rng) for _ in range(rng.randint(1, 5))]
    scores = [values((len(d),), seed + i, ties) for i, d in enumerate(documents)]
    order = rng.sample(range(len(documents)), len(documents))

    def kept(layout, order):
        inputs, places = batch(layout, [documents[i] for i in order])
        rel, attention = values(inputs["labels"].shape, seed, ties)  # other numbers on padding must not matter
        for i, (row, begin) in zip(order, places, strict=True):
            rel[row, begin : begin + len(documents[i])], attention[row, begin : begin + len(documents[i])] = scores[i]
        weights = select(inputs, rel, attention, rho, gamma)
        by_document = {
            i: weights[row, begin : begin + len(documents[i])].tolist()
            for i, (row, begin) in zip(order, places, strict=True)
        }
        assert weights.sum() == sum(map(sum, by_document.values())), "padding was kept"
        return by_document

    expected = kept("right", range(len(documents)))
    for layout in LAYOUTS:
        if layout != "no-mask":
            assert kept(layout, range(len(documents))) == expected
            assert kept(layout, order) == expected


@pytest.mark.parametrize("rho", [*RHOS, 0.07, 0.29, 0.57, 1 / 3, 0.999999])
def test_keep_count_is_the_smallest_count_that_reaches_rho(rho):
    n = torch.arange(0, 600)
    assert keep_count(n, rho).tolist() == [oracle.how_many(int(i), rho) for i in n]


def test_keep_count_is_not_fooled_by_floating_point():
    assert math.ceil(0.55 * 100) == 56
    assert keep_count(torch.tensor([20, 100]), 0.55).tolist() == [11, 55]


def test_equal_rel_everywhere_scales_to_zero_and_leaves_the_choice_to_the_attention():
    documents = Documents.from_labels(torch.tensor([[-100, -100, 1, 2, 3, 4]]))
    rel, attention = torch.full((1, 6), 0.7), torch.tensor([[0.0, 0.0, 0.1, 0.4, 0.2, 0.3]])
    assert torch.equal(minmax(rel, documents), torch.zeros(1, 6))
    assert keep_best(sstoken_score(documents, rel, attention), documents, 0.5).tolist() == [[0, 0, 0, 1, 0, 1]]


def test_ties_go_to_the_earlier_token_even_in_a_long_batch():
    labels = torch.ones(4, 500, dtype=torch.long)
    kept = keep_best(torch.zeros(4, 500), Documents.from_labels(labels), 0.1)
    assert kept[:, 1:51].all()
    assert kept.sum() == 4 * 50


def test_the_first_token_of_a_document_is_never_a_response():
    documents = Documents.from_labels(torch.tensor([[7, 8, 9, 7, 8]]), position_ids=torch.tensor([[0, 1, 2, 0, 1]]))
    assert documents.response.tolist() == [[False, True, True, False, True]]
    assert documents.prompt.tolist() == [[True, False, False, True, False]]


def test_values_off_the_response_are_ignored_even_if_not_finite():
    labels = torch.tensor([[-100, 5, 6, -100, 7, 0], [-100, -100, -100, -100, -100, -100]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]])
    rel = torch.tensor([[torch.nan, 0.1, 0.3, torch.inf, 0.2, torch.nan], [torch.nan] * 6])
    attention = torch.tensor([[torch.nan, 0.0, 0.0, torch.inf, 0.0, torch.nan], [torch.nan] * 6])
    weights = select({"labels": labels, "attention_mask": mask}, rel, attention, 0.6, 0.5)
    assert weights.tolist() == [[0, 0, 1, 0, 1, 0], [0] * 6]


def test_an_all_padding_batch_keeps_nothing():
    labels, zeros = torch.full((2, 4), -100), torch.zeros(2, 4)
    for mask in (None, torch.zeros(2, 4, dtype=torch.long)):
        assert not select({"labels": labels, "attention_mask": mask}, zeros, zeros, 0.6, 0.5).any()


def test_boolean_and_single_row_position_tensors_work():
    labels = torch.tensor([[-100, 1, 2, 3], [-100, 4, 5, 6]])
    rel = torch.tensor([[0.0, 0.3, 0.2, 0.1]]).repeat(2, 1)
    mask, positions = torch.ones(2, 4, dtype=torch.bool), torch.arange(4)[None]
    weights = select({"labels": labels, "attention_mask": mask, "position_ids": positions}, rel, rel, 0.3, 1.0)
    assert weights.tolist() == [[0, 1, 0, 0]] * 2


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({"labels": torch.zeros(4, dtype=torch.long)}, "labels"),
        ({"labels": torch.zeros(1, 4).long(), "attention_mask": torch.ones(1, 1, 4, 4)}, "attention_mask"),
        ({"labels": torch.zeros(1, 4).long(), "position_ids": torch.zeros(3, 1, 4).long()}, "position_ids"),
    ],
)
def test_shapes_that_carry_no_documents_are_refused_by_name(inputs, named):
    with pytest.raises(ValueError, match=f"`{named}` has shape"):
        Documents.from_batch(inputs)


@pytest.mark.parametrize(
    ("gamma", "said"),
    [
        (0.5, "`gamma` is 0.5, so the excess loss counts: pass `log_probs` and `history_log_probs`"),
        (1.0, "`gamma` is 1.0, so the excess loss counts: pass `log_probs` and `history_log_probs`"),
        (0.0, "`attention` is None but `gamma` is 0.0: pass it"),
    ],
)
def test_a_missing_signal_is_named(gamma, said):
    with pytest.raises(ValueError, match=said):
        select_tokens(torch.tensor([[-100, 1, 2]]), gamma=gamma)


def test_a_signal_without_weight_may_be_missing():
    labels, scores = torch.tensor([[-100, -100, 1, 2]]), torch.tensor([[0.0, 0.0, 0.1, 0.2]])
    by_attention = select_tokens(labels, attention=scores, gamma=0.0, rho=0.5)
    by_rel = select_tokens(labels, log_probs=scores, history_log_probs=scores * 0, gamma=1.0, rho=0.5)
    assert by_attention.tolist() == by_rel.tolist() == [[0, 0, 0, 1]]


def test_nothing_to_learn_is_a_zero_loss_that_can_be_back_propagated():
    log_probs = torch.randn(2, 3, requires_grad=True)
    for denominator in (0, 0.0, torch.tensor(0)):
        loss = weighted_nll(log_probs, torch.zeros(2, 3), denominator)
        loss.backward()
        assert loss.item() == 0
        assert not log_probs.grad.any()


def test_the_documented_examples_are_right():
    assert doctest.testmod(sstoken_plugins.methods.sstoken, optionflags=doctest.ELLIPSIS).attempted > 0
    assert doctest.testmod(sstoken_plugins.methods.sstoken).failed == 0
