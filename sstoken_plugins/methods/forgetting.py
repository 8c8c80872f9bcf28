"""Forgetting: the tokens that token cleaning would drop are unlearned, ever more (arXiv 2508.04329)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Counts, Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions, option
from .base import Method
from .ranked import rho
from .token_cleaning import TokenCleaning, TokenCleaningOptions, over


@dataclass(frozen=True)
class ForgettingOptions(NoOptions):
    rho: float = rho(0.7)
    over: str = over()
    unlearn: float = option(
        0.25,
        "How much the tokens that do not train are unlearned at the end of training, relative to those that do.",
        valid=lambda strength: 0 <= strength < 1,
        otherwise=", but it weighs what is unlearned against what is learned: set it in [0, 1), for example 0.25.",
        shown=True,
    )
    schedule: str = option(
        "linear",
        "How that grows: 'linear' from 0 at the first step, or 'constant'.",
        choices=("linear", "constant"),
        shown=True,
    )


class Forgetting(Method):
    """The rho best by `log q_reference - log q_history` train, and the others are unlearned.

        loss = mean(-log p of the best) - lambda * mean(-log p of the others)
        lambda = unlearn * step / total steps

    For noisy data, as token cleaning, where what is wrong should not only be skipped. The authors take both means over
    a micro-batch. Here they are those of each document, weighted by its length (`over: sample`: weights `n / k` and
    `-lambda * n / (n - k)`), or have the sizes that they have over all the data (`over: data`: `1 / rho` and
    `-lambda / (1 - rho)`), and the sum is divided by all response tokens: the batch size and packing change nothing.
    """

    evidence = (
        "in a small testbed, with a reference made of a few right samples, better than plain fine-tuning at a new "
        "skill with one of eleven kinds of data, a wrong rule that does not surprise the base model, and much worse "
        "with two"
    )
    Options = ForgettingOptions
    reference = "arXiv 2508.04329"

    def __init__(self, options: ForgettingOptions | None = None) -> None:
        super().__init__(options)
        self._cleaning = TokenCleaning(TokenCleaningOptions(rho=self.options.rho, over=self.options.over))

    def strength(self, progress: Progress) -> float:
        """lambda at this step."""
        if self.options.schedule == "constant":
            return float(self.options.unlearn)
        return float(self.options.unlearn * (progress.fraction if progress.step else 0))

    def signals(self, progress: Progress) -> Sequence[str]:
        return self._cleaning.signals(progress)

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return self._cleaning.score(signals, documents, progress)

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        best = self._cleaning.weights(signals, documents, progress) > 0
        strength = self.strength(progress)
        if self._cleaning.over_data:
            share = self.options.rho
            up, down = 1 / share, strength / (1 - share) if share < 1 else 0.0
            return torch.where(best, torch.full_like(signals[self._cleaning.signal], up), -down)
        n, k = documents.n_response, documents.sum(best.long())
        learned, unlearned = n / k.clamp(min=1), -strength * n / (n - k).clamp(min=1)
        return torch.where(best, documents.broadcast(learned), documents.broadcast(unlearned))

    def denominator(self, counts: Counts, progress: Progress) -> Tensor:
        return counts.n_response

    def notes(self, progress: Progress) -> Sequence[str]:
        strength = self.strength(progress)
        if strength == 0:
            return ("At this step nothing is unlearned: the others have no weight.",)
        return (f"The others are unlearned with a strength of {strength:.3g} (lambda).",)


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("forgetting", Forgetting)
