"""ssToken without noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from .base import Controls, Method
from .sstoken import SSToken, SSTokenOptions
from .trimmed import SIGNALS, TrimOptions


@dataclass(frozen=True)
class SSTokenTrimmedOptions(TrimOptions, SSTokenOptions):
    """Those of both."""


class SSTokenTrimmed(SSToken):
    """The rho best of every document by ssToken's score, but none with `p <= trim / V`.

    `rel` is scaled over the tokens that are left, or one outlier would squeeze all others together. Where noise leaves
    fewer than `rho * n` tokens, all of them train; the loss is divided by `rho * n` all the same.
    """

    Options = SSTokenTrimmedOptions

    @property
    def reads(self) -> frozenset[str]:
        return super().reads | {SIGNALS[self.options.trim_by]}

    def signals(self, progress: Progress) -> Sequence[str]:
        return [*super().signals(progress), SIGNALS[self.options.trim_by]]

    def eligible(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        plausible: Tensor = signals[SIGNALS[self.options.trim_by]] > math.log(self.options.trim)
        return documents.response & plausible

    def controls(self, progress: Progress) -> Controls:
        return Controls(
            top="rho",
            blend=("gamma", "rel", "attention"),
            threshold=("trim", SIGNALS[self.options.trim_by]),
        )


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("sstoken_trimmed", SSTokenTrimmed)
