"""PSFT: PPO's clipped step, with every token of the data a good action (arXiv 2508.17784)."""

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
class PSFTOptions(NoOptions):
    clip: float = option(
        0.28,
        "A token stops training once its probability has grown by this share since the snapshot.",
        valid=lambda clip: 0 < clip < math.inf,
        otherwise=", but it is the growth of a probability: set it above 0, for example 0.28.",
        shown=True,
    )


class PSFT(Method):
    """Weight `r * 1[r < 1 + clip]` with `r = p / p_old`, without gradient; `p_old` is the model a few steps ago.

        loss = sum(-min(r, clip(r, 1 - e, 1 + clip))) / n

    Proximal fine-tuning keeps each step near the last snapshot, so entropy does not collapse. As published, the
    snapshot is renewed every 8 steps: set `history: snapshot` and `refresh_steps: 8`. The lower bound `1 - e` never
    binds, since the advantage is always 1.
    """

    Options = PSFTOptions
    reference = "arXiv 2508.17784"
    histories = ("snapshot",)
    history_explained = "a copy of the model from a few steps ago (`refresh_steps` 8)"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["rel"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        rel = signals["rel"]
        return torch.where(rel < math.log1p(self.options.clip), rel.exp(), 0)


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("psft", PSFT)
