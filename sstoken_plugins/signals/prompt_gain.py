"""How much a prompt helps to predict its answer."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..markers import hookimpl
from ..measure import Column, Measurements
from ..measure.unprompted import headers
from .base import Signal


class PromptGain(Signal):
    """`log(p_h(y | prompt, before) + 1/V) - log(p_h(y | before) + 1/V)`: how much the prompt helps with the token.

    In nats, under the history model; V is the size of the vocabulary. The `1/V`, a uniform guess, keeps a random token
    from outweighing all others. 0 in a document that has nothing in front of its header. Summed over an answer it is
    the instruction-following difficulty of Li et al. (arXiv 2308.12032) as a difference.
    """

    needs = frozenset({"log_probs", "history", "unprompted"})
    column = Column(
        "gain from the prompt",
        "How much more likely the history model finds the token with the prompt than without it, in nats.",
        per_document=True,
    )

    def __call__(self, measured: Measurements) -> Tensor:
        history, unprompted, documents = measured["history"], measured["unprompted"], measured.documents
        guess = history.new_tensor(-math.log(measured.vocabulary))
        gain = history.logaddexp(guess) - unprompted.logaddexp(guess)
        taken_out = (documents.prompt & ~headers(documents)).flatten().to(gain)
        n_taken_out = torch.zeros_like(taken_out).index_add_(0, documents.ids.clamp(min=0).flatten(), taken_out)
        return torch.where(documents.broadcast(n_taken_out) > 0, gain, 0)


@hookimpl
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    register("prompt_gain", PromptGain)
