"""MinorSFT: samples that have been learned count less (arXiv 2408.10642)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Counts, Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions, option
from . import parameters
from .base import Method


@dataclass(frozen=True)
class MinorSFTOptions(NoOptions):
    beta: float = parameters.beta(0.1)
    form: str = option(
        "mean",
        "Whether a sample's tokens share its weight ('mean', the paper's loss) or each have it ('sum', torchrl's).",
        choices=("mean", "sum"),
        shown=True,
    )


class MinorSFT(Method):
    """Samples that have become more likely count less: weight `2 / T * sigmoid(-beta * sum rel)`, T tokens.

    `form: sum` gives each token `beta * sigmoid(-beta * sum rel)` instead, which is the gradient of

        loss = mean over samples of -log sigmoid(beta * sum rel)

    The half of DPO that has a chosen answer and no rejected one, with `rel` against the start model. A sample stops
    training once it has become more likely, which keeps the model near its start. The loss is divided by the number
    of samples. A sample cut in two by packing or truncation is two samples.
    """

    Options = MinorSFTOptions
    reference = "arXiv 2408.10642"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["rel"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        beta = self.options.beta
        unlearned = torch.sigmoid(-beta * documents.sum(signals["rel"]))
        factor = beta if self.options.form == "sum" else 2 / documents.n_response.clamp(min=1)
        return documents.broadcast(factor * unlearned)

    def denominator(self, counts: Counts, progress: Progress) -> Tensor:
        return (counts.n_response > 0).long()


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("minor_sft", MinorSFT)
