"""What was made of a micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents
from ..measure import Measurements


@dataclass(frozen=True)
class Selection:
    """The outcome for one micro-batch, as observers see it.

    Attributes:
        measured: what was known of the tokens.
        signals: the signals that were computed, by name, (B, S) each.
        weights: (B, S) float32, the factor of each token's loss; 0 drops it.
    """

    measured: Measurements
    signals: Mapping[str, Tensor]
    weights: Tensor

    @property
    def documents(self) -> Documents:
        return self.measured.documents

    @property
    def kept(self) -> Tensor:
        """(B, S) bool: response tokens with a weight."""
        return self.documents.response & (self.weights != 0)

    @property
    def dropped(self) -> Tensor:
        """(B, S) bool: response tokens without."""
        return self.documents.response & (self.weights == 0)
