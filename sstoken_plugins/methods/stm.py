"""STM: tokens that surprise the base model do not train (arXiv 2501.14315)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions, option
from .base import Method


@dataclass(frozen=True)
class STMOptions(NoOptions):
    perplexity: float = option(
        2.5,
        "A token trains if the history model's perplexity on it is at most this; 2.5 is a probability of 0.4.",
        valid=lambda perplexity: 1 < perplexity < math.inf,
        otherwise=", but a perplexity is 1 at least: set it above 1, for example 2.5.",
        shown=True,
    )


class STM(Method):
    """Every token with `1 / q <= perplexity` under the history, the model before fine-tuning.

    Selective token masking, for not forgetting: what is left is close to what the model would have written itself. The
    published loss is divided by the tokens that are left. How many those are follows from no label, so here it is
    divided by all response tokens: a smaller step where much is left out, which Adam mostly undoes.
    """

    Options = STMOptions
    selects = True
    evidence = (
        "in a small testbed, kept more of old skills than plain fine-tuning, and lost most or all of the new one"
    )
    reference = "arXiv 2501.14315"

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["history_log_prob"]

    def eligible(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        expected: Tensor = -signals["history_log_prob"] <= math.log(self.options.perplexity)
        return documents.response & expected

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return self.eligible(signals, documents, progress).float()


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("stm", STM)
