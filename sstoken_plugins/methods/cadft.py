"""CADFT: DFT that turns away from samples harder than usual (arXiv 2606.11206)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from . import parameters
from .base import Method
from .lagged import MOST_NATS, Lagged, LaggedMethod, LaggedOptions, document_means
from .selection import Selection

LEAST_DEVIATION = 1e-2
"""In nats: below, samples are alike, and a histogram cannot tell them apart."""


@dataclass(frozen=True)
class CADFTOptions(LaggedOptions):
    beta: float = parameters.beta(1.0)


class CADFT(LaggedMethod):
    """Weight `p * exp(-beta * relu(z))` with `z = (L - mean) / deviation` of a sample's mean loss `L`, no gradient.

    Mean and deviation are those of samples in earlier optimizer steps, where the authors take the present batch. In
    the first step it is DFT. This is their weighting; their rewriting of hard answers by another model is not here.
    """

    Options = CADFTOptions
    reference = "arXiv 2606.11206"

    def follow(self) -> dict[str, Lagged]:
        return {"loss": Lagged(0, MOST_NATS, self.options.half_life)}

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["log_prob"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        probs, seen = signals["log_prob"].exp(), self.lagged["loss"]
        if not seen.n_seen:
            return probs
        mean, _ = document_means(-signals["log_prob"], documents)
        z = (mean - seen.mean(0)) / max(seen.deviation(0), LEAST_DEVIATION)
        return probs * documents.broadcast((-self.options.beta * z.clamp(min=0)).exp())

    def observe(self, selection: Selection) -> None:
        mean, some = document_means(-selection.signals["log_prob"], selection.documents)
        self.lagged["loss"].add(mean, some)


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("cadft", CADFT)
