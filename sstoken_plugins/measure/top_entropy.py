"""The entropy of the likeliest tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..markers import hookimpl
from ..model.logits import LogitsChunk
from ..options import NoOptions, option
from .base import Column, HeadStatistic, Measurement


@dataclass(frozen=True)
class TopEntropyOptions(NoOptions):
    top_k: int = option(
        20,
        "How many of the likeliest tokens the entropy is taken over.",
        valid=lambda k: k >= 2,
        otherwise=", but one token alone has no entropy: set it to 2 or more, for example 20.",
    )


class TopEntropy(HeadStatistic):
    """`-sum r log r` over the `top_k` likeliest tokens, `r` their probabilities scaled to sum 1. In nats.

    At most `log(top_k)`, 3.0 for 20.
    """

    Options = TopEntropyOptions
    column = Column("entropy of the likeliest", "How undecided the model was between its likeliest tokens, in nats.")

    def of(self, chunk: LogitsChunk) -> Tensor:
        top = chunk.shifted.topk(min(self.options.top_k, chunk.shifted.shape[-1]), sorted=False).values
        log_r = top.log_softmax(-1)
        return -(log_r.exp() * log_r).sum(-1)


@hookimpl
def register_measurements(register: Callable[[str, type[Measurement]], None]) -> None:
    register("top_entropy", TopEntropy)
