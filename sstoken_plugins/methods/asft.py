"""ASFT: DFT that is held to its base model (arXiv 2509.23753)."""

from __future__ import annotations

from collections.abc import Callable

from ..markers import hookimpl
from .base import Method
from .dft import DFT


class ASFT(DFT):
    """Weight `p`, as DFT, to be used with `anchor: k3`, which adds `anchor_weight * (q/p - 1)`.

        loss = sum(-p.detach() * log p + anchor_weight * (q/p - log(q/p) - 1)) / n,   q of the history

    For training on math and the like without drifting away from the base model. Set `anchor: k3` (and `history`, base
    by default). The authors anchor by the divergence over the whole vocabulary, with weight 0.1 or 0.05; at the label
    alone, as here, others take 0.005 to 0.03.
    """

    reference = "arXiv 2509.23753"


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("asft", ASFT)
