"""Answers to another question left out: those that their prompt does not make more likely do not train.

The paper asks whether a token attends to its prompt. In short chats, a wrong prompt gets as much attention as a right
one; what tells the right one is that it helps to predict the answer. Both halves of that comparison come from the
history model, so that what is learned does not change what is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from .base import Method
from .trimmed import Trimmed


class Grounded(Trimmed):
    """Every token with `p > trim / V`, of every document whose `prompt_gain` is not negative in sum.

    The sum is the log of a likelihood ratio: this answer with its prompt, against the same answer without one. Where
    it is negative, the prompt speaks against the answer. Everything else is as in the parent class.
    """

    evidence = "finds answers to another question, but leaving them out was not shown to train better"
    reference = "cf. arXiv 2308.12032"

    def signals(self, progress: Progress) -> Sequence[str]:
        return [*super().signals(progress), "prompt_gain"]

    def eligible(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        gain = documents.broadcast(documents.sum(signals["prompt_gain"]))
        return super().eligible(signals, documents, progress) & (gain >= 0)

    def controls(self, progress: Progress) -> None:
        return None


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("grounded", Grounded)
