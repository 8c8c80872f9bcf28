"""Token cleaning: what a reference trained on clean data finds likelier than the base model (arXiv 2502.01968)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..data import Counts, Documents, Progress
from ..markers import hookimpl
from ..options import option
from .base import Controls, Method
from .ranked import RankedMethod, RhoOptions


def over() -> Any:
    """The option `over`."""
    return option(
        "data",
        "What tokens are ranked among: all of the 'data' (the history and the reference have to be recorded), or "
        "those of their own 'sample'.",
        choices=("data", "sample"),
        shown=True,
    )


@dataclass(frozen=True)
class TokenCleaningOptions(RhoOptions):
    over: str = over()


class TokenCleaning(RankedMethod):
    """The rho best by `log q_reference - log q_history`: both models are frozen, so the choice never changes.

        over: data      kept = score at least the 1 - rho quantile of all stored tokens;
                        loss = sum over kept of -log p / (rho * number of response tokens)
        over: sample    kept = the best keep_count(n, rho) of each document;
                        loss = sum over kept of -log p / number of kept tokens

    For noisy data, with a reference that was fine-tuned on a small clean part of it. The history should be the base
    model. The authors divide by the number of kept tokens of a micro-batch; over the data, rho of all tokens are kept,
    and dividing by that share makes the step independent of how the data are cut into batches.
    """

    evidence = (
        "in a small testbed, with a reference made of a few right samples, better than plain fine-tuning at a new "
        "skill with one of eleven kinds of data, a wrong rule that does not surprise the base model"
    )
    Options = TokenCleaningOptions
    reference = "arXiv 2502.01968"

    @property
    def over_data(self) -> bool:
        return bool(self.options.over == "data")

    @property
    def signal(self) -> str:
        """The one that tokens are ranked by."""
        return "reference_rank" if self.over_data else "reference_gain"

    def signals(self, progress: Progress) -> Sequence[str]:
        return [self.signal]

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return signals[self.signal]

    def eligible(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        if not self.over_data:
            return documents.response
        best: Tensor = signals[self.signal] >= 1 - self.options.rho
        return documents.response & best

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        if self.over_data:
            return self.eligible(signals, documents, progress).float()
        return super().weights(signals, documents, progress)

    def denominator(self, counts: Counts, progress: Progress) -> Tensor:
        if self.over_data:
            share: Tensor = self.options.rho * counts.n_response
            return share
        return super().denominator(counts, progress)

    def n_kept(self, counts: Counts, progress: Progress) -> Tensor | None:
        return None if self.over_data else super().n_kept(counts, progress)

    def controls(self, progress: Progress) -> Controls | None:
        return None if self.over_data else super().controls(progress)


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("token_cleaning", TokenCleaning)
