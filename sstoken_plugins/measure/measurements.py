"""What is known of a micro-batch's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, MicroBatch, Progress


@dataclass(frozen=True)
class Measurements(Mapping[str, Tensor]):
    """What signals read: measurements by name. All (B, S), aligned with the labels, without gradient.

    Attributes:
        batch: the tokens.
        progress: how far the training is.
        vocabulary: how many tokens the model chooses from.
        known: `log_probs` of each token under the current model, and what else was measured. Without chance: dropout
            and its like are off.
    """

    batch: MicroBatch
    progress: Progress
    vocabulary: int
    known: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        """Raises:
        KeyError: if it was not measured.
        """
        try:
            return self.known[name]
        except KeyError:
            raise KeyError(
                f"{name!r} was not measured: a signal that reads it has to name it in its `needs`. Measured: "
                f"{', '.join(self.known)}."
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)

    @property
    def documents(self) -> Documents:
        """Which token belongs to which document, and which are prompt and response."""
        return self.batch.documents

    @property
    def input_ids(self) -> Tensor:
        """(B, S) int64."""
        return self.batch.input_ids

    @property
    def log_probs(self) -> Tensor:
        """`log p(token | tokens before)` under the current model, in nats."""
        return self["log_probs"]
