"""The losses as they were published: full logits, autograd, one answer after the other. Slow, and obviously right.

Each function takes the answers of an optimizer step, and the options, and gives the loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass
class Answer:
    """The response tokens of one document, T of them.

    Attributes:
        logits: (T, V), with gradient.
        history: (T, V), the same of the history model, without.
        labels: (T,).
        positions: T, in the document; empty where nobody asks.
        reference: (T, V), of the reference; None where there is none, as the next two.
        unprompted: (T, V), of the history without the prompt, save the four tokens before an answer.
        attention: (T,), mass on the prompt in the last layer, mean over its heads.
    """

    logits: Tensor
    history: Tensor
    labels: Tensor
    positions: Sequence[int] = ()
    reference: Tensor | None = None
    unprompted: Tensor | None = None
    attention: Tensor | None = None

    def log_prob_by(self, logits: Tensor) -> Tensor:
        return logits.log_softmax(-1)[range(len(self.labels)), self.labels]

    @property
    def log_p(self) -> Tensor:
        return self.log_prob_by(self.logits)

    @property
    def p(self) -> Tensor:
        return self.log_p.exp()

    @property
    def nll(self) -> Tensor:
        return -self.log_p

    @property
    def entropy(self) -> Tensor:
        return -(self.logits.softmax(-1) * self.logits.log_softmax(-1)).sum(-1)

    @property
    def log_q(self) -> Tensor:
        return self.log_prob_by(self.history)

    @property
    def rel(self) -> Tensor:
        return self.log_p.detach() - self.log_q

    @property
    def ratio(self) -> Tensor:
        return (self.log_p - self.log_q).exp()


def over_tokens(answers: Sequence[Answer], loss_of_tokens) -> Tensor:
    """The sum over all tokens, divided by how many there are."""
    return sum(loss_of_tokens(a).sum() for a in answers) / sum(len(a.labels) for a in answers)


def over_samples(answers: Sequence[Answer], loss_of_answer) -> Tensor:
    return sum(loss_of_answer(a) for a in answers) / len(answers)


def dft(answers):
    return over_tokens(answers, lambda a: a.p.detach() * a.nll)


def power(answers, alpha=1.0):
    return over_tokens(answers, lambda a: (1 - a.p**alpha) / alpha)


def infosft(answers, p_bar=0.93):
    def loss(a):
        p = a.p.detach().double()
        logit = (p / (1 - p)).log()
        return (p * torch.relu(1 - logit / math.log(p_bar / (1 - p_bar)))).float() * a.nll

    return over_tokens(answers, loss)


def profit(answers, threshold=0.1, side="above"):
    def loss(a):
        train = a.p > threshold if side == "above" else a.p <= threshold
        return train.float() * a.nll

    return over_tokens(answers, loss)


def prift(answers, by="prob", mass=0.5):
    def loss(a):
        if by == "prob":
            return a.log_q.exp() * a.nll
        q = a.history.softmax(-1)
        below = [row[row <= row[label]].sum() for row, label in zip(q, a.labels, strict=True)]
        return (torch.stack(below) >= mass).float() * a.nll

    return over_tokens(answers, loss)


def stm(answers, perplexity=2.5):
    return over_tokens(answers, lambda a: ((-a.log_q).exp() <= perplexity).float() * a.nll)


def eaft(answers, alpha=1.0, top_k=20, scale=3.0):
    def loss(a):
        r = a.logits.detach().topk(top_k).values.softmax(-1)
        return (-(r * r.log()).sum(-1) / scale) ** alpha * a.nll

    return over_tokens(answers, loss)


def deft(answers):
    def loss(a):
        alpha = a.logits.detach().softmax(-1).square().sum(-1)
        return -(a.p**alpha - 1) / alpha

    return over_tokens(answers, loss)


def talr(answers, tau=None, floor=0.01):
    if tau is None:
        tau = float(torch.cat([a.nll.detach() for a in answers]).quantile(0.5))
    return over_tokens(answers, lambda a: (a.p.detach() ** (1 / tau)).clamp(min=floor) * a.nll)


def flow(answers, tau=None):
    base = [-a.log_q.mean() for a in answers]
    tau = float(torch.stack(base).quantile(0.5)) if tau is None else tau
    return over_tokens(answers, lambda a: (a.log_q.mean() / tau).exp() * a.nll)


def psft(answers, clip=0.28):
    return over_tokens(answers, lambda a: -torch.minimum(a.ratio, a.ratio.clamp(0.8, 1 + clip)))


def iw_sft(answers, temperature=1.0, cap=None, per="sample"):
    def loss(a):
        rel = a.log_p.detach() - a.log_q
        if per == "sample":
            return (temperature * rel.mean()).exp().clamp(0, cap or 16) * a.nll
        return rel.exp().clamp(0.2, cap or 1.8) * a.nll

    return over_tokens(answers, loss)


def minor_sft(answers, beta=0.1, form="mean"):
    if form == "mean":  # published by its gradient
        return over_samples(
            answers, lambda a: 2 * torch.sigmoid(-beta * (a.log_p.detach() - a.log_q).sum()) * a.nll.mean()
        )
    return over_samples(answers, lambda a: -logsigmoid(beta * (a.log_p - a.log_q).sum()))


def npo(answers, beta=0.1):
    return over_samples(answers, lambda a: 2 / beta * torch.log1p((a.log_p - a.log_q).sum().exp() ** beta))


def memft(answers, threshold):
    return over_tokens(answers, lambda a: (a.nll > threshold).float() * a.nll)


def cadft(answers, beta=1.0):
    means = torch.stack([a.nll.detach().mean() for a in answers])

    def loss(a):
        z = (a.nll.detach().mean() - means.mean()) / means.std(correction=0)
        return torch.exp(-beta * torch.relu(z)) * a.p.detach() * a.nll

    return over_tokens(answers, loss)


def loss_truncation(answers, drop=0.4):
    means = torch.stack([a.nll.detach().mean() for a in answers])
    most = means.quantile(1 - drop, interpolation="lower")
    return over_tokens(answers, lambda a: (a.nll.detach().mean() <= most).float() * a.nll)


def full(answers):
    return over_tokens(answers, lambda a: a.nll)


def asft(answers, anchor_weight, anchor_clip):
    """Unclipped."""

    def loss(a):
        log_ratio = a.log_q - a.log_p
        return a.p.detach() * a.nll + anchor_weight * (log_ratio.exp() - log_ratio - 1)

    return over_tokens(answers, loss)
