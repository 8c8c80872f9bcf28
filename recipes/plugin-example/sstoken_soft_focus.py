"""A complete plugin: a signal, a method with an option of its own, and the hooks that name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sstoken_plugins import Column, Documents, Measurements, Method, NoOptions, Progress, Signal, hookimpl, option


class Offness(Signal):
    """`-log p - entropy`, in nats: how much more a token surprises than the model expected to be surprised.

    Around 0 where the model knows what it does not know. High where it was sure of something else: a mistake of the
    model, or of the data.
    """

    needs = frozenset({"log_probs", "entropy"})
    column = Column("offness", "How much more the token surprises the model than the model expected, in nats.")

    def __call__(self, measured: Measurements) -> Tensor:
        return -measured.log_probs - measured["entropy"]


@dataclass(frozen=True)
class SoftFocusOptions(NoOptions):
    softness: float = option(
        1.0,
        "How gently the weight of a token falls with its offness, in nats; large values are plain fine-tuning.",
        valid=lambda softness: softness > 0,
        otherwise=": set it above 0, for example 1.0.",
        shown=True,
    )


class SoftFocus(Method):
    """Drops nothing: a token weighs less the more it is off, compared with the other tokens of its answer.

        weight = sigmoid(-(offness - mean of its document) / softness), scaled to a mean of 1 per document

    So every document counts as much as in plain fine-tuning.
    """

    Options = SoftFocusOptions

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["offness"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        n = documents.n_response.clamp(min=1)
        mean = documents.broadcast(documents.sum(signals["offness"]) / n)
        weights = torch.sigmoid((mean - signals["offness"]) / self.options.softness)
        return weights / documents.broadcast(documents.sum(weights) / n).clamp(min=1e-6)


@hookimpl
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    register("offness", Offness)


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("soft_focus", SoftFocus)
