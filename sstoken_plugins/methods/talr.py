"""TALR: unlikely tokens train at a lower rate (arXiv 2509.20758)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import option
from . import parameters
from .base import Method
from .lagged import MOST_NATS, Lagged, LaggedMethod, LaggedOptions
from .selection import Selection


@dataclass(frozen=True)
class TALROptions(LaggedOptions):
    tau: float | None = parameters.tau()
    floor: float = option(
        0.01,
        "The least weight of a token.",
        valid=lambda floor: 0 <= floor <= 1,
        otherwise=", but it is a weight: set it in [0, 1], for example 0.01.",
        shown=True,
    )


class TALR(LaggedMethod):
    """Weight `max(p ** (1 / tau), floor)` under the current model, without gradient.

    Token-adaptive loss re-weighting, for not forgetting. `tau` is the median loss of tokens in earlier optimizer
    steps, where the authors take that of the present batch; in the first step all tokens count alike. An exponent of
    `1 / tau` gives the token with the median loss the weight `1 / e`.
    """

    Options = TALROptions
    reference = "arXiv 2509.20758"

    def follow(self) -> dict[str, Lagged]:
        return {"loss": Lagged(0, MOST_NATS, self.options.half_life)} if self.options.tau is None else {}

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["log_prob"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        tau = self.options.tau or self.lagged["loss"].quantile(0.5, otherwise=0.0)
        if not tau:
            return torch.ones_like(signals["log_prob"])
        return (signals["log_prob"] / tau).exp().clamp(min=self.options.floor)

    def observe(self, selection: Selection) -> None:
        if self.lagged:
            self.lagged["loss"].add(-selection.signals["log_prob"], selection.documents.response)


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("talr", TALR)
