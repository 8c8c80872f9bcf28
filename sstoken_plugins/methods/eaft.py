"""EAFT: tokens count more where the model is undecided (arXiv 2601.02151)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions, option
from . import parameters
from .base import Method


@dataclass(frozen=True)
class EAFTOptions(NoOptions):
    alpha: float = parameters.alpha(1.0)
    scale: float = option(
        3.0,
        "What the entropy is divided by: 3.0, about log(20), as published, or 1.0 as in Axolotl's `use_eaft`.",
        valid=lambda scale: 0 < scale < math.inf,
        otherwise=", but it divides the entropy: set it above 0, for example 3.0.",
        shown=True,
    )


class EAFT(Method):
    """Weight `(H / scale) ** alpha`, with `H` the entropy of the `top_k` likeliest tokens under the current model.

    Entropy-adaptive fine-tuning, for not forgetting: a confident model that is contradicted by the data hardly trains
    on that token, whatever its loss.
    """

    Options = EAFTOptions
    evidence = (
        "in a small testbed, not shown to be better than plain fine-tuning at a new skill; at old ones better with "
        "one of eleven kinds of data and worse with three"
    )
    reference = "arXiv 2601.02151"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["top_entropy"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        # Rounding may put the entropy of a certain prediction below 0.
        entropy = signals["top_entropy"].clamp(min=0)
        weights: Tensor = (entropy / self.options.scale) ** self.options.alpha
        return weights


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("eaft", EAFT)
