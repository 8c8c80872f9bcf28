"""The loss of weighted tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_nll(log_probs: Tensor, weights: Tensor, denominator: Tensor | float) -> Tensor:
    """`-(weights * log_probs).sum() / denominator`: the training loss of one micro-batch.

    With 0/1 weights and, as denominator, the number of kept tokens of the whole optimizer step (all micro-batches, all
    processes) this is cross-entropy over the kept tokens, whatever the batch and accumulation sizes. A denominator of
    0 (nothing to learn in the whole step) gives 0, and the result can still be back-propagated.
    """
    denominator = torch.as_tensor(denominator, dtype=torch.float32, device=log_probs.device)
    return -(weights * log_probs).sum() / torch.where(denominator > 0, denominator, 1)
