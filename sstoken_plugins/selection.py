"""What is known of a micro-batch's tokens, and what was made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .documents import Documents


@dataclass(frozen=True)
class TokenScores:
    """What signals read. All tensors (B, S), aligned with the labels, without gradient; 0 off the response.

    Attributes:
        documents: which token belongs to which document, and which are prompt and response.
        input_ids: int64.
        log_probs: of each token under the current model, dropout off.
        entropy: of the distribution that predicted the token, in nats.
        history_log_probs: under the history model; None if no signal in use needs it.
        attention: mass on the prompt, in [0, 1]; None if no signal in use needs it.
        step: optimizer steps done so far.
        vocabulary: how many tokens the model chooses from.
        unprompted_log_probs: under the history model if the prompt is not there; None if no signal in use needs it.
    """

    documents: Documents
    input_ids: Tensor
    log_probs: Tensor
    entropy: Tensor
    history_log_probs: Tensor | None
    attention: Tensor | None
    step: int
    vocabulary: int
    unprompted_log_probs: Tensor | None = None


@dataclass(frozen=True)
class Selection:
    """The outcome for one micro-batch, as observers see it.

    Attributes:
        scores: what was known.
        signals: the signals that were computed, by name, (B, S) each.
        weights: (B, S) float32, the factor of each token's loss; 0 drops it.
    """

    scores: TokenScores
    signals: Mapping[str, Tensor]
    weights: Tensor

    @property
    def documents(self) -> Documents:
        return self.scores.documents

    @property
    def kept(self) -> Tensor:
        """(B, S) bool: response tokens with a weight."""
        return self.documents.response & (self.weights != 0)

    @property
    def dropped(self) -> Tensor:
        """(B, S) bool: response tokens without."""
        return self.documents.response & (self.weights == 0)
