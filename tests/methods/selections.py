"""Losses over chosen tokens, as the methods are documented: full logits, autograd, one answer after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import oracle
from .published import Answer, over_tokens


def is_best(scores: Tensor, rho: float) -> Tensor:
    """Of the tokens of one document."""
    kept = torch.zeros(len(scores), dtype=torch.bool)
    kept[oracle.best(scores.tolist(), rho)] = True
    return kept


def over_best(answers, rho, score, eligible=lambda a: torch.ones(len(a.labels), dtype=torch.bool)):
    """The mean over the best tokens of each document; what is not eligible adds nothing, and is counted."""
    kept = [is_best(torch.where(eligible(a), score(a), -torch.inf), rho) for a in answers]
    losses = [a.nll[best & eligible(a)].sum() for a, best in zip(answers, kept, strict=True)]
    return sum(losses) / sum(best.sum() for best in kept)


def signal(answers, signal, rho=0.6):
    return over_best(answers, rho, lambda a: getattr(a, signal))


def rho1(answers, rho=0.6):
    return over_best(answers, rho, lambda a: a.log_prob_by(a.reference) - a.log_p.detach())


def reference_gain(a: Answer) -> Tensor:
    return a.log_prob_by(a.reference) - a.log_q


def token_cleaning(answers, over, rho=0.6):
    assert over == "sample"
    return over_best(answers, rho, reference_gain)


def forgetting(answers, over, schedule, rho=0.7, unlearn=0.25):
    assert (over, schedule) == ("sample", "constant")

    def loss(a):
        best = is_best(reference_gain(a), rho)
        others = a.nll[~best].mean() if (~best).any() else 0.0
        return len(a.labels) * (a.nll[best].mean() - unlearn * others)

    return sum(loss(a) for a in answers) / sum(len(a.labels) for a in answers)


def is_plausible(a: Answer, trim: float) -> Tensor:
    return a.log_q.exp() > trim / a.logits.shape[-1]


def trimmed(answers, trim):
    return over_tokens(answers, lambda a: is_plausible(a, trim) * a.nll)


def grounded(answers, trim):
    def helps(a):
        if a.unprompted is None:
            return True
        guess = 1 / a.logits.shape[-1]
        with_prompt, without = (a.log_prob_by(logits).exp() + guess for logits in (a.history, a.unprompted))
        return (with_prompt / without).log().sum() >= 0

    return over_tokens(answers, lambda a: helps(a) * is_plausible(a, trim) * a.nll)


def sstoken(answers, rho=0.6, gamma=0.5, eligible=lambda a: torch.ones(len(a.labels), dtype=torch.bool)):
    def score(a):
        rel, some = a.rel, eligible(a)
        low, high = (rel[some].min(), rel[some].max()) if some.any() else (0.0, 0.0)
        scaled = (rel - low) / (high - low) if high > low else torch.zeros_like(rel)
        return gamma * scaled + (1 - gamma) * a.attention

    return over_best(answers, rho, score, eligible)


def sstoken_trimmed(answers, trim):
    return sstoken(answers, eligible=lambda a: is_plausible(a, trim))
