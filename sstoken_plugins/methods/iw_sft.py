"""iw-SFT: samples, or tokens, that have become more likely count more (arXiv 2507.12856)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions, option
from .base import Method
from .lagged import document_means

CAPS = {"sample": 16.0, "token": 1.8}
LEAST_OF_TOKENS = 0.2


@dataclass(frozen=True)
class IwSFTOptions(NoOptions):
    temperature: float = option(
        1.0,
        "Factor of the mean log-ratio in the exponent, for weights per sample.",
        valid=lambda temperature: 0 < temperature < math.inf,
        otherwise=", but it multiplies the exponent of the weight: set it above 0, for example 1.0.",
        shown=True,
    )
    cap: float | None = option(
        None,
        "The largest weight. Unset: 16 per sample, 1.8 per token.",
        valid=lambda cap: 0 < cap < math.inf,
        otherwise=", but it is the largest weight: set it above 0, for example 16.",
        shown=True,
    )
    per: str = option(
        "sample",
        "What gets a weight of its own: each 'sample' or each 'token'.",
        choices=("sample", "token"),
        shown=True,
    )


class IwSFT(Method):
    """Weight `min(exp(temperature * mean rel), cap)` for all tokens of a sample; `rel` against the start model.

    Per token it is `clamp(exp(rel), 0.2, cap)`. Importance-weighted fine-tuning: on curated data, plain fine-tuning is
    a loose bound of what reinforcement learning would maximise, and this one is tighter. A sample without history
    counts as in plain fine-tuning.
    """

    Options = IwSFTOptions
    reference = "arXiv 2507.12856"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["rel"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        cap = self.options.cap or CAPS[self.options.per]
        if self.options.per == "token":
            return signals["rel"].exp().clamp(LEAST_OF_TOKENS, cap)
        mean, _ = document_means(signals["rel"], documents)
        return documents.broadcast((self.options.temperature * mean).exp().clamp(max=cap))


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("iw_sft", IwSFT)
