"""Noise left out: tokens that the history model finds far less likely than a uniform guess do not train.

The excess loss keeps random tokens: their history loss is huge, and merely flattening the prediction lowers it. The
history model itself knows them for what they are, and what it says does not move while the model trains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from .config import SSTokenConfig
from .documents import Documents
from .hookspecs import hookimpl
from .scores import keep_best, sstoken_score
from .selection import TokenScores
from .signals import Signal
from .strategies import SSToken, Strategy


class Plausibility(Signal):
    """`log p_current - log(1 / V)`: how much likelier than a uniform guess over the vocabulary, in nats."""

    def __call__(self, scores: TokenScores) -> Tensor:
        return scores.log_probs + math.log(scores.vocabulary)


class HistoryPlausibility(Signal):
    """`log p_history - log(1 / V)`, the same of the history model."""

    needs = frozenset({"history"})

    def __call__(self, scores: TokenScores) -> Tensor:
        assert scores.history_log_probs is not None  # granted by `needs`
        return scores.history_log_probs + math.log(scores.vocabulary)


SIGNALS = {"history": "history_plausibility", "current": "plausibility"}
"""Who says what is noise, by the option `trim_by`."""


class Trimmed(Strategy):
    """Every token with `p > trim / V`: plain fine-tuning without noise. `p` is of the model that `trim_by` names.

    How many tokens that drops depends on the data: of clean answers few, of answers full of noise most of it. The loss
    is still divided by the number of all response tokens, so dropping a share of them shrinks the gradient by that
    share; Adam, which divides by the gradient's size, takes steps of the same length.
    """

    selects = True

    def __init__(self, config: SSTokenConfig) -> None:
        super().__init__(config)
        self._signal, self._least = SIGNALS[config.trim_by], math.log(config.trim)

    def signals(self, step: int) -> Sequence[str]:
        return [self._signal]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        return (signals[self._signal] > self._least).float()


class SSTokenTrimmed(SSToken):
    """The rho best of every document by ssToken's score, but none with `p <= trim / V`.

    `rel` is scaled over the tokens that are left, or one outlier would squeeze all others together. Where noise leaves
    fewer than `rho * n` tokens, all of them train; the loss is divided by `rho * n` all the same.
    """

    def __init__(self, config: SSTokenConfig) -> None:
        super().__init__(config)
        self._signal, self._least = SIGNALS[config.trim_by], math.log(config.trim)

    def signals(self, step: int) -> Sequence[str]:
        return [*super().signals(step), self._signal]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        plausible = documents.response & (signals[self._signal] > self._least)
        left = Documents(documents.ids, documents.prompt, plausible)
        score = sstoken_score(left, signals.get("rel"), signals.get("attention"), self.gamma(step))
        best = keep_best(torch.where(plausible, score, -torch.inf), documents, self.config.rho)
        return (best & plausible).float()


@hookimpl
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    register("plausibility", Plausibility)
    register("history_plausibility", HistoryPlausibility)


@hookimpl
def register_strategies(register: Callable[[str, type[Strategy]], None]) -> None:
    register("trimmed", Trimmed)
    register("sstoken_trimmed", SSTokenTrimmed)
