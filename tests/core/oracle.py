"""ssToken one document at a time, in Python loops. Slow, and obviously right."""

from __future__ import annotations

import torch

IGNORE = -100


def documents_of_row(labels, mask=None, positions=None):
    """The documents of one row, each a list of column numbers, in order."""
    documents, previous = [], None
    for column in range(len(labels)):
        number = 1 if mask is None else mask[column]
        if number == 0:
            previous = None
            continue
        starts = previous is None or number != previous[0]
        if positions is not None and previous is not None and positions[column] != previous[1] + 1:
            starts = True
        if starts:
            documents.append([])
        documents[-1].append(column)
        previous = (number, None if positions is None else positions[column])
    return documents


def documents_of(labels, attention_mask=None, position_ids=None):
    """(row, columns) of every document of a batch."""
    found = []
    for row in range(len(labels)):
        mask = None if attention_mask is None else attention_mask[row].tolist()
        positions = None if position_ids is None else position_ids[row % len(position_ids)].tolist()
        found += [(row, columns) for columns in documents_of_row(labels[row].tolist(), mask, positions)]
    return found


def response_of(labels, row, columns):
    """The columns that are trained: those with a label, save the first token, which nothing predicts."""
    return [column for column in columns[1:] if labels[row, column] != IGNORE]


def has_prompt(labels, row, columns):
    """Whether a token without label, other than the first, comes before one that is trained."""
    response = response_of(labels, row, columns)
    return any(column not in response and column < response[-1] for column in columns[1:]) if response else False


def how_many(n, rho):
    """The smallest k with k / n >= rho."""
    k = 0
    while n and k / n < rho:
        k += 1
    return k


def minmax(values):
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]


def scores(rel, attention, gamma):
    """Of one document's response tokens, in single precision like the tensors that are compared with them."""
    n = len(rel or attention)
    scaled = minmax([torch.tensor(value) for value in rel]) if gamma > 0 else [0.0] * n
    attention = attention if gamma < 1 else [0.0] * n
    return [gamma * r + (1 - gamma) * torch.tensor(a) for r, a in zip(scaled, attention, strict=True)]


def best(values, rho):
    """Places of the `how_many` highest values; the earlier one wins a tie."""
    ranked = sorted(range(len(values)), key=lambda i: (-float(values[i]), i))
    return sorted(ranked[: how_many(len(values), rho)])


def select(labels, rel, attention, rho, gamma, attention_mask=None, position_ids=None):
    """(B, S) weights: 1 on the kept tokens."""
    weights = torch.zeros(labels.shape)
    for row, columns in documents_of(labels, attention_mask, position_ids):
        response = response_of(labels, row, columns)
        if not response:
            continue
        to_prompt = [attention[row, c].item() if has_prompt(labels, row, columns) else 0.0 for c in response]
        ranked = scores([rel[row, c].item() for c in response], to_prompt, gamma)
        for place in best(ranked, rho):
            weights[row, response[place]] = 1
    return weights


def read_logits(logits, ids):
    """log-probability, entropy and is-top-1 of every token, (B, S) each, from full logits; 0 for the first token."""
    log_softmax = logits.float().log_softmax(-1)
    log_probs, entropy = torch.zeros(ids.shape), torch.zeros(ids.shape)
    top1 = torch.zeros(ids.shape, dtype=torch.bool)
    for row in range(ids.shape[0]):
        for column in range(1, ids.shape[1]):
            before = log_softmax[row, column - 1]
            log_probs[row, column] = before[ids[row, column]]
            entropy[row, column] = -(before.exp() * before).sum()
            top1[row, column] = before.argmax() == ids[row, column]
    return log_probs, entropy, top1
