"""InfoSFT: neither what the model knows nor what it finds absurd (arXiv 2605.14967)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions, option
from .base import Method


@dataclass(frozen=True)
class InfoSFTOptions(NoOptions):
    p_bar: float = option(
        0.93,
        "Probability from which on a token counts as known and does not train.",
        valid=lambda p: 0.5 < p < 1,
        otherwise=", but it is the probability of a known token: set it between 0.5 and 1, for example 0.93.",
        shown=True,
    )


class InfoSFT(Method):
    """Weight `p * relu(1 - logit(p) / logit(p_bar))` under the current model, without gradient.

    It vanishes for `p` near 0, where the token looks like noise, and for `p >= p_bar`, where nothing is left to learn.
    """

    Options = InfoSFTOptions
    evidence = (
        "in a small testbed, better than plain fine-tuning at a new skill where most answers began with the same "
        "phrase or followed a wrong rule that surprises the base model, and not shown to be better with nine other "
        "kinds of data"
    )
    reference = "arXiv 2605.14967"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["log_prob"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        log_p = signals["log_prob"].clamp(max=0)  # rounding may put a certain label above
        logit = log_p - torch.log(-torch.expm1(log_p))  # exact for p near 1, where 1 - p would round to 0
        known = math.log(self.options.p_bar / (1 - self.options.p_bar))
        return log_p.exp() * (1 - logit / known).clamp(min=0)


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("infosft", InfoSFT)
