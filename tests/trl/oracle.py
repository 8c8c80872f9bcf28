"""ssToken for one sample at a time: full logits, eager attention weights, Python loops. Slow, and obviously right."""

from __future__ import annotations

from contextlib import nullcontext

import torch


def sample_scores(model, ids: list[int], labels: list[int], gamma: float, history=None):
    """Per response token (position, nll, score); `history` is another model, or None for the adapter switched off."""
    ids_row = torch.tensor([ids])
    response = [i for i in range(1, len(ids)) if labels[i] != -100]
    prompt = [i for i in range(len(ids)) if i not in response]

    def run(which):
        with torch.no_grad():
            out = which(input_ids=ids_row, output_attentions=True)
        log_softmax = out.logits[0].float().log_softmax(-1)
        return [log_softmax[i - 1, ids[i]].item() for i in response], out.attentions[-1][0].float()

    current, attention = run(model)
    with model.disable_adapter() if history is None else nullcontext():
        past, _ = run(model if history is None else history)
    rel = [c - h for c, h in zip(current, past, strict=True)]
    low, high = min(rel, default=0), max(rel, default=0)
    scores = []
    for i, r in zip(response, rel, strict=True):
        scaled = (r - low) / (high - low) if high > low else 0.0
        mass = attention[:, i, prompt].sum(-1).mean().item()
        scores.append(gamma * scaled + (1 - gamma) * mass)
    return response, [-c for c in current], scores


def keep(scores: list[float], rho: float) -> list[int]:
    k = next(k for k in range(len(scores) + 1) if not scores or k / len(scores) >= rho)
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]


def loss(model, rows, rho: float, gamma: float, history=None) -> float:
    """Mean over the kept tokens of all rows, each (ids, labels)."""
    kept = []
    for ids, labels in rows:
        _, nll, scores = sample_scores(model, ids, labels, gamma, history)
        kept += [nll[i] for i in keep(scores, rho)]
    return sum(kept) / len(kept)
