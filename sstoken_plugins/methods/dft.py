"""DFT: each token counts as much as the model believes in it (arXiv 2508.05629)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from .base import Method


class DFT(Method):
    """Weight `p`, the probability of the label under the current model, without gradient.

        loss = sum(-p.detach() * log p) / n,   with the gradient of sum(1 - p) / n

    Dynamic fine-tuning, for data that a strong base model nearly knows, such as math. Unlikely tokens hardly train, so
    new facts are learned slowly. The same as TRL's `loss_type: dft`.
    """

    evidence = (
        "in a small testbed, better than plain fine-tuning at a new skill where most answers began with the same "
        "phrase, and not shown to be better with ten other kinds of data"
    )
    reference = "arXiv 2508.05629"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["log_prob"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return signals["log_prob"].exp()


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("dft", DFT)
