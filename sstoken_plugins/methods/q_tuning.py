"""Q-Tuning: samples and tokens pruned together (arXiv 2509.23873)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import option
from .base import Method
from .lagged import BINS, MOST_NATS, Lagged, LaggedMethod, LaggedOptions, document_means
from .ranking import keep_best
from .selection import Selection

MOST_LOG_PERPLEXITY = 80.0
"""exp of more is not a float32."""
ALIKE = 2 / BINS
"""Ranks that differ by less are the same: a histogram does not tell them apart, and among few samples many are."""


@dataclass(frozen=True)
class QTuningOptions(LaggedOptions):
    samples: float = option(
        0.5,
        "Share of the samples that trains.",
        valid=lambda samples: 0 < samples <= 1,
        otherwise=", but it is a share of the samples: set it in (0, 1], for example 0.5.",
        shown=True,
    )
    tokens: float = option(
        0.7,
        "Share of the response tokens that trains, of samples whose tokens are pruned.",
        valid=lambda tokens: 0 < tokens <= 1,
        otherwise=", but it is a share of the tokens: set it in (0, 1], for example 0.7.",
        shown=True,
    )
    neighbours: float = option(
        0.25,
        "Weight of the perplexity of the tokens before and after in the score of a token.",
        valid=lambda weight: 0 <= weight <= 1,
        otherwise=", but it is a weight: set it in [0, 1], for example 0.25.",
    )


class QTuning(LaggedMethod):
    """Drops samples that are noise or known by perplexity and entropy, and prunes the tokens of misconceptions.

        e, u = ranks in [0, 1] of the sample's mean loss and of its mean entropy, among earlier samples
        kept = the best share `samples` by max(min(e, 1 - u), min(u, 1 - e)):
            e >= u: a misconception (wrong and sure). Its best share `tokens` trains, by
                (1 - neighbours) * PPL_i + neighbours * (PPL_{i-1} + PPL_{i+1}),   PPL = 1 / p
            e <  u: calibration (right and unsure). All of it trains.

    What is high in both is taken for noise, what is low in both for known. The published search for the two quantiles,
    the same in both directions, that leave the share `samples` is the ranking above, over earlier optimizer steps in
    place of the present batch: all samples train in the first two. Ranks that differ by less than 0.00025 are alike,
    and what stands like the last sample that trains, trains too. `neighbours` is called lambda there, without a
    value. The loss is divided by all response tokens.
    """

    Options = QTuningOptions
    selects = True
    reference = "arXiv 2509.23873"

    def follow(self) -> dict[str, Lagged]:
        half_life = self.options.half_life
        return {
            "loss": Lagged(0, MOST_NATS, half_life),
            "entropy": Lagged(0, MOST_NATS, half_life),
            "standing": Lagged(0, 1, half_life),
        }

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["loss", "entropy"]

    def _standing(self, signals: Mapping[str, Tensor], documents: Documents) -> tuple[Tensor, Tensor, Tensor]:
        """Of each document (B*S,): by what it is kept, whether it is a misconception, and whether it is one at all."""
        loss, some = document_means(signals["loss"], documents)
        entropy, _ = document_means(signals["entropy"], documents)
        e = self.lagged["loss"].rank(loss, otherwise=0.5)
        u = self.lagged["entropy"].rank(entropy, otherwise=0.5)
        return torch.maximum(torch.minimum(e, 1 - u), torch.minimum(u, 1 - e)), e > u - ALIKE, some

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        perplexity = torch.where(documents.response, signals["loss"].clamp(0, MOST_LOG_PERPLEXITY).exp(), 0)
        same = documents.ids[:, 1:] == documents.ids[:, :-1]
        around = torch.zeros_like(perplexity)
        around[:, 1:] += torch.where(same, perplexity[:, :-1], 0)
        around[:, :-1] += torch.where(same, perplexity[:, 1:], 0)
        score: Tensor = (1 - self.options.neighbours) * perplexity + self.options.neighbours * around
        return score

    def eligible(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        if not self.lagged["standing"].n_seen:
            return documents.response
        standing, _, _ = self._standing(signals, documents)
        least = self.lagged["standing"].quantile(1 - self.options.samples, otherwise=0.0)
        return documents.response & (documents.broadcast(standing) > least - ALIKE)

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        eligible = self.eligible(signals, documents, progress)
        if not self.lagged["standing"].n_seen:
            return eligible.float()
        _, misconception, _ = self._standing(signals, documents)
        best = keep_best(self.score(signals, documents, progress), documents, self.options.tokens)
        return (eligible & (best | ~documents.broadcast(misconception))).float()

    def observe(self, selection: Selection) -> None:
        signals, documents = selection.signals, selection.documents
        if self.lagged["loss"].n_seen:
            standing, _, some = self._standing(signals, documents)
            self.lagged["standing"].add(standing, some)
        self.lagged["loss"].add(*document_means(signals["loss"], documents))
        self.lagged["entropy"].add(*document_means(signals["entropy"], documents))

    def notes(self, progress: Progress) -> Sequence[str]:
        return () if self.lagged["standing"].n_seen else ("All samples train in the first two steps.",)


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("q_tuning", QTuning)
