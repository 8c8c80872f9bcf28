"""The built-in strategies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from .config import SSTokenConfig
from .documents import Documents
from .hookspecs import hookimpl
from .scores import keep_best, keep_count, sstoken_score


class Strategy(ABC):
    """Turns signals into the weight of every token's loss.

    Attributes:
        selects: whether the weights are 0 and 1 alone. If so, dropped tokens can also lose their label, and the
            framework's own loss be taken over the others (`loss: framework`).
    """

    selects: ClassVar[bool] = False

    def __init__(self, config: SSTokenConfig) -> None:
        self.config = config

    @abstractmethod
    def signals(self, step: int) -> Sequence[str]:
        """Names of the signals that `weights` reads at this optimizer step.

        What it names at step 0 and at step `rel_warmup_steps` is all that it may ever name: the model is prepared for
        it before training.
        """

    @abstractmethod
    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        """(B, S) weights: 0 drops a token, 1 keeps it, any other number re-weighs it, a negative one unlearns it.

        Values off the response are ignored.
        """

    def denominator(self, n_response: Tensor) -> Tensor:
        """What a document adds to the number that the optimizer step's loss is divided by.

        It has to follow from the labels alone, because the loss of the first micro-batch is divided by the sum over
        all micro-batches and processes. Default: the number of response tokens, as in plain fine-tuning.

        Args:
            n_response: (N,) int64, number of response tokens of each document.
        """
        return n_response

    def n_kept(self, n_response: Tensor) -> Tensor | None:
        """How many tokens of a document get a weight at most, if the labels alone tell: (N,) int64, or None.

        Where it is known, the host need not ask the device how many there are.
        """
        return None


class _KeepBest(Strategy):
    """Keeps the best fraction rho of every document."""

    selects = True

    @abstractmethod
    def score(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor: ...

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        return keep_best(self.score(signals, documents, step), documents, self.config.rho).float()

    def denominator(self, n_response: Tensor) -> Tensor:
        return keep_count(n_response, self.config.rho)

    def n_kept(self, n_response: Tensor) -> Tensor | None:
        return self.denominator(n_response)


class SSToken(_KeepBest):
    """The rho best by `gamma * minmax(rel) + (1 - gamma) * attention` (arXiv 2510.18250)."""

    def gamma(self, step: int) -> float:
        return 0.0 if step < self.config.rel_warmup_steps else self.config.gamma

    def signals(self, step: int) -> Sequence[str]:
        gamma = self.gamma(step)
        return (["rel"] if gamma > 0 else []) + (["attention"] if gamma < 1 else [])

    def score(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        return sstoken_score(documents, signals.get("rel"), signals.get("attention"), self.gamma(step))


class BestBySignal(_KeepBest):
    """The rho highest by one signal, as it is."""

    def signals(self, step: int) -> Sequence[str]:
        assert self.config.signal is not None  # granted by the configuration
        return [self.config.signal]

    def score(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        return next(iter(signals.values()))


class Random(_KeepBest):
    """A random rho of every document, drawn anew at every step."""

    def signals(self, step: int) -> Sequence[str]:
        return ["noise"]

    def score(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        return signals["noise"]


class Full(Strategy):
    """Every response token: plain fine-tuning, through the same code."""

    selects = True

    def signals(self, step: int) -> Sequence[str]:
        return []

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        return documents.response.float()

    def n_kept(self, n_response: Tensor) -> Tensor:
        return n_response


@hookimpl
def register_strategies(register: Callable[[str, type[Strategy]], None]) -> None:
    register("sstoken", SSToken)
    register("signal", BestBySignal)
    register("random", Random)
    register("full", Full)
