"""A complete plugin: one signal, one strategy, and the hooks that name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sstoken_plugins import Documents, Signal, SSTokenConfig, Strategy, TokenScores, hookimpl


class Offness(Signal):
    """`-log p - entropy`, in nats: how much more a token surprises than the model expected to be surprised.

    Around 0 where the model knows what it does not know. High where it was sure of something else: a mistake of the
    model, or of the data.
    """

    def __call__(self, scores: TokenScores) -> Tensor:
        return -scores.log_probs - scores.entropy


class SoftFocus(Strategy):
    """Drops nothing: a token weighs less the more it is off, compared with the other tokens of its answer.

        weight = sigmoid(-(offness - mean of its document) / softness), scaled to a mean of 1 per document

    So every document counts as much as in plain fine-tuning, and a large `softness` is plain fine-tuning. The option
    is set by name, `options: {softness: 0.5}` under Axolotl and `--sstoken_options '{"softness": 0.5}'` under TRL.
    """

    def __init__(self, config: SSTokenConfig) -> None:
        super().__init__(config)
        self.softness = float(config.options.get("softness", 1.0))
        if self.softness <= 0:
            raise ValueError(f"`options` has softness {self.softness}: set it above 0, for example 1.0.")

    def signals(self, step: int) -> Sequence[str]:
        return ["offness"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        n = documents.n_response.clamp(min=1)
        mean = documents.spread(documents.sum(signals["offness"]) / n)
        weights = torch.sigmoid((mean - signals["offness"]) / self.softness)
        return weights / documents.spread(documents.sum(weights) / n).clamp(min=1e-6)


@hookimpl
def register_signals(register):
    register("offness", Offness)


@hookimpl
def register_strategies(register):
    register("soft_focus", SoftFocus)
