"""Loss truncation: the hardest samples do not train (arXiv 2004.14589)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import option
from .base import Method
from .lagged import MOST_NATS, Lagged, LaggedMethod, LaggedOptions, document_means
from .selection import Selection


@dataclass(frozen=True)
class LossTruncationOptions(LaggedOptions):
    drop: float = option(
        0.4,
        "Share of the samples that does not train: those with the highest mean loss.",
        valid=lambda drop: 0 < drop < 1,
        otherwise=", but it is a share of the samples: set it between 0 and 1, for example 0.4.",
        shown=True,
    )
    hot_start: int = option(
        1000,
        "Samples seen before any is left out.",
        valid=lambda samples: samples >= 0,
        otherwise=", but it counts samples: set it to 0 or more.",
    )


class LossTruncation(LaggedMethod):
    """Every token of a sample whose mean loss is at most the `1 - drop` quantile of earlier optimizer steps.

    For data with wrong answers: a sample that stays hard is left out whole, and no fact is broken apart. The authors
    train without it for the first 10,000 samples, which here is `hot_start`. The loss is divided by all response
    tokens.
    """

    Options = LossTruncationOptions
    selects = True
    reference = "arXiv 2004.14589"

    def follow(self) -> dict[str, Lagged]:
        return {"loss": Lagged(0, MOST_NATS, self.options.half_life)}

    @property
    def _most(self) -> float | None:
        """The highest mean loss that trains; None: any."""
        seen = self.lagged["loss"]
        if not seen.n_seen or seen.n_seen < self.options.hot_start:
            return None
        return seen.quantile(1 - self.options.drop, otherwise=MOST_NATS)

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["loss"]

    def eligible(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        most = self._most
        if most is None:
            return documents.response
        mean, _ = document_means(signals["loss"], documents)
        return documents.response & (documents.broadcast(mean) <= most)

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return self.eligible(signals, documents, progress).float()

    def observe(self, selection: Selection) -> None:
        self.lagged["loss"].add(*document_means(selection.signals["loss"], selection.documents))

    def notes(self, progress: Progress) -> Sequence[str]:
        if (most := self._most) is None:
            return (
                f"All samples train until {self.options.hot_start} were seen (`hot_start`); so far "
                f"{self.lagged['loss'].n_seen} were.",
            )
        return (f"Samples with a mean loss above {most:.3f} do not train.",)


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("loss_truncation", LossTruncation)
