"""Methods that keep the best tokens of each document."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import Counts, Documents, Progress
from ..options import NoOptions, option
from .base import Controls, Method
from .ranking import keep_best, keep_count


def rho(default: float) -> Any:
    """The option `rho`, for methods with a default of their own."""
    return option(
        default,
        "Fraction of each sample's response tokens that trains, in (0, 1].",
        valid=lambda rho: 0 < rho <= 1,
        otherwise=", but it is the fraction of response tokens that trains: set it in (0, 1], for example 0.6 (1.0 "
        "trains on all of them).",
        shown=True,
    )


@dataclass(frozen=True)
class RhoOptions(NoOptions):
    rho: float = rho(0.6)


class RankedMethod(Method):
    """Keeps the best fraction `rho` of every document's response tokens by `score`, less what is not `eligible`.

    The loss is divided by `keep_count(n, rho)` of each document, also where fewer were eligible.
    """

    Options = RhoOptions
    selects = True

    @abstractmethod
    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor: ...

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        score, eligible = (each(signals, documents, progress) for each in (self.score, self.eligible))
        best = keep_best(torch.where(eligible, score, -torch.inf), documents, self.options.rho)
        return (best & eligible).float()

    def denominator(self, counts: Counts, progress: Progress) -> Tensor:
        return keep_count(counts.n_response, self.options.rho)

    def n_kept(self, counts: Counts, progress: Progress) -> Tensor | None:
        return self.denominator(counts, progress)

    def controls(self, progress: Progress) -> Controls | None:
        return Controls(top="rho")
