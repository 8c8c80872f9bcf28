"""MinorSFT: samples that have been learned count less (arXiv 2408.10642)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Counts, Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions
from . import parameters
from .base import Method


@dataclass(frozen=True)
class MinorSFTOptions(NoOptions):
    beta: float = parameters.beta(0.1)


class MinorSFT(Method):
    """Weight `beta * sigmoid(-beta * sum rel)` for all tokens of a sample, `rel` against the start model.

        loss = mean over samples of -log sigmoid(beta * sum rel)

    The half of DPO that has a chosen answer and no rejected one: a sample stops training once it has become more
    likely, which keeps the model near its start. The loss is divided by the number of samples. A sample cut in two by
    packing or truncation is two samples.
    """

    Options = MinorSFTOptions
    reference = "arXiv 2408.10642"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["rel"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        beta = self.options.beta
        return documents.broadcast(beta * torch.sigmoid(-beta * documents.sum(signals["rel"])))

    def denominator(self, counts: Counts, progress: Progress) -> Tensor:
        return (counts.n_response > 0).long()


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("minor_sft", MinorSFT)
