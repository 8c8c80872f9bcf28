"""FLOW: samples that the pretrained model finds easy count more (arXiv 2502.02797)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions
from . import parameters
from .base import Method
from .lagged import MOST_NATS, Lagged, LaggedMethod, document_means
from .selection import Selection


@dataclass(frozen=True)
class FLOWOptions(NoOptions):
    tau: float | None = parameters.tau()


class FLOW(LaggedMethod):
    """Weight `exp(-L / tau)` for all tokens of a sample, `L` its mean loss under the history: the start model.

    For not forgetting. `tau` is the median `L` of the samples seen in earlier optimizer steps. The authors take it
    over the whole data set before training, so set it if you know it. In the first step all samples count alike. The
    loss is divided by the number of response tokens. A sample without history gets the loss that it has now.
    """

    Options = FLOWOptions
    reference = "arXiv 2502.02797"

    def follow(self) -> dict[str, Lagged]:
        return {"loss": Lagged(0, MOST_NATS)} if self.options.tau is None else {}

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["history_log_prob"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        tau = self.options.tau or self.lagged["loss"].quantile(0.5, otherwise=0.0)
        if not tau:
            return torch.ones_like(signals["history_log_prob"])
        mean, _ = document_means(signals["history_log_prob"], documents)
        return documents.broadcast((mean / tau).exp())

    def observe(self, selection: Selection) -> None:
        if self.lagged:
            mean, some = document_means(selection.signals["history_log_prob"], selection.documents)
            self.lagged["loss"].add(-mean, some)


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("flow", FLOW)
