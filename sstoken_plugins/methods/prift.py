"""PriFT: each token counts as much as the pretrained model believes in it (arXiv 2606.09396)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions, option
from .base import Method


@dataclass(frozen=True)
class PriFTOptions(NoOptions):
    by: str = option(
        "prob",
        "What the pretrained model is asked: the 'prob' of the label, or the 'mass' of all that is not above it.",
        choices=("prob", "mass"),
        shown=True,
    )
    mass: float = option(
        0.5,
        "With `by: mass`, a token trains if at least this much of the probability is not above it.",
        valid=lambda mass: 0 < mass <= 1,
        otherwise=", but it is a share of the probability: set it in (0, 1], for example 0.5.",
    )


class PriFT(Method):
    """Weight `q`, or `1[mass(q) >= mass]`, with `q` of the history: the pretrained model, which stays as it is.

        mass(q) = sum q(v) over all v with q(v) <= q(label)

    DFT's weight follows the model in training and can collapse with it; this one cannot. A token without history gets
    what the current model says. `by: mass` reads the whole distribution, so it needs a history that can run.
    """

    Options = PriFTOptions
    evidence = (
        "in a small testbed, kept more of old skills than plain fine-tuning, and lost most or all of the new one"
    )
    reference = "arXiv 2606.09396"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["history_log_prob" if self.options.by == "prob" else "history_mass"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        if self.options.by == "prob":
            return signals["history_log_prob"].exp()
        likely: Tensor = signals["history_mass"] >= self.options.mass
        return likely.float()


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("prift", PriFT)
