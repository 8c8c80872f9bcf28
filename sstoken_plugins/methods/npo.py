"""NPO: unlearning that stops by itself (arXiv 2404.05868)."""

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
class NPOOptions(NoOptions):
    beta: float = parameters.beta(0.1)


class NPO(Method):
    """Weight `-2 * sigmoid(beta * sum rel)` for all tokens of a sample, `rel` against the start model: unlearning.

        loss = mean over samples of 2 / beta * log(1 + (p(answer) / q(answer)) ** beta)

    Negative preference optimisation, for answers that the model should no longer give: all the data are what is to be
    forgotten. The weight fades for an answer that has become unlikely, where gradient ascent (`beta` near 0) goes on
    until the model is broken. The loss is divided by the number of samples. A sample cut in two by packing or
    truncation is two samples.
    """

    Options = NPOOptions
    reference = "arXiv 2404.05868"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["rel"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return documents.broadcast(-2 * torch.sigmoid(self.options.beta * documents.sum(signals["rel"])))

    def denominator(self, counts: Counts, progress: Progress) -> Tensor:
        return (counts.n_response > 0).long()


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("npo", NPO)
