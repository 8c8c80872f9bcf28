"""Holding the model to its history: an estimate of their divergence, as weights on top of any method's."""

from __future__ import annotations

from torch import Tensor


def k3_weights(log_probs: Tensor, history_log_probs: Tensor, weight: float, clip: float) -> Tensor:
    """`weight * clamp(q/p - 1, max=clip)`, to be added to the weights of the tokens' losses; same shape.

    With p the label's probability under the model in training and q under its history, the estimate of `KL(p || q)`
    at the label is `k3 = q/p - log(q/p) - 1`, which is 0 where both agree and positive elsewhere. Its gradient is
    `(1 - q/p)` times that of `log p`, so that of the loss `-log p` with the weight `q/p - 1`: above 0 where the model
    has fallen below its history, below 0 where it has risen above it. Both pull p to q.

    Unclipped, the gradient of `sum(weight * k3)` is exactly that of `-sum(k3_weights * log p)`. The clip bounds the
    pull on tokens that the model finds far less likely than its history does, where `q/p` has no bound.

    Args:
        log_probs, history_log_probs: in nats, without gradient.
    """
    return weight * ((history_log_probs - log_probs).exp() - 1).clamp(max=clip)
