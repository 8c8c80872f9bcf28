"""MemFT: only what the model would not say greedily (arXiv 2605.30260)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions
from . import parameters
from .base import Method


@dataclass(frozen=True)
class MemFTOptions(NoOptions):
    threshold: float = parameters.threshold(math.log(2))


class MemFT(Method):
    """Every token with `-log p > threshold` under the current model; `log 2` means `p < 0.5`.

    For memorising facts word by word: a token with `p > 0.5` is what greedy decoding says already. This is the
    over-threshold form. The published loss is divided by the tokens that are left, here by all response tokens.
    """

    Options = MemFTOptions
    selects = True
    reference = "arXiv 2605.30260"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["loss"]

    def eligible(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        unsaid: Tensor = signals["loss"] > self.options.threshold
        return documents.response & unsaid

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return self.eligible(signals, documents, progress).float()


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("memft", MemFT)
