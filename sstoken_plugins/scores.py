"""The method on plain tensors: scores, the best fraction, the loss. No model, no trainer."""

from __future__ import annotations

import torch
from torch import Tensor

from .documents import Documents


def retrospective_excess_loss(log_probs: Tensor, history_log_probs: Tensor) -> Tensor:
    """`rel = L_history - L_current = log p_current - log p_history` (ssToken, eq. 3), elementwise.

    High where the model has begun to learn the token since the history model. (Rho-1's excess loss runs the other way
    and needs an outside reference model.)
    """
    return log_probs - history_log_probs


def minmax(values: Tensor, documents: Documents) -> Tensor:
    """`(x - min) / (max - min)` over each document's response tokens; 0 where all are equal, and off the response.

    Args:
        values: (B, S) float.

    Returns:
        (B, S), in [0, 1].
    """
    low, high = documents.extrema(values)
    low, span = documents.spread(low), documents.spread(high - low)
    scaled = (values - low) / torch.where(span > 0, span, 1)
    return torch.where(documents.response & (span > 0), scaled, 0)


def sstoken_score(
    documents: Documents, rel: Tensor | None = None, attention: Tensor | None = None, gamma: float = 0.5
) -> Tensor:
    """`gamma * minmax(rel) + (1 - gamma) * attention` (ssToken, eq. 6). A part with weight 0 may be None.

    Args:
        rel: (B, S) retrospective excess loss of each token.
        attention: (B, S) mass that each token's attention puts on its document's prompt, in [0, 1].

    Returns:
        (B, S) float, 0 off the response.
    """
    score = torch.zeros(documents.ids.shape, device=documents.ids.device)
    if gamma > 0:
        if rel is None:
            raise ValueError(f"`rel` is None but gamma is {gamma}: pass it, or set gamma to 0.")
        score = score + gamma * minmax(rel, documents)
    if gamma < 1:
        if attention is None:
            raise ValueError(f"`attention` is None but gamma is {gamma}: pass it, or set gamma to 1.")
        score = score + (1 - gamma) * attention
    return torch.where(documents.response, score, 0)


def keep_count(n_response: Tensor, rho: float) -> Tensor:
    """The smallest `k` with `k / n >= rho`: 55 for 0.55 of 100, where `ceil(0.55 * 100)` is 56 in floating point.

    Args:
        n_response: int, any shape.

    Returns:
        int64, same shape; 0 where there are none.
    """
    n = n_response.double()
    k = (rho * n).ceil()
    k = torch.where((k - 1) / n >= rho, k - 1, k)
    k = torch.where(k / n < rho, k + 1, k)
    return k.long()


def keep_best(scores: Tensor, documents: Documents, rho: float) -> Tensor:
    """Marks the `keep_count(n, rho)` best response tokens of every document; the earlier token wins a tie.

    Args:
        scores: (B, S) float.

    Returns:
        (B, S) bool.
    """
    response = documents.response.flatten()
    order = torch.where(response, scores.flatten(), -torch.inf).argsort(descending=True, stable=True)
    # A stable sort by document keeps the order by score within each; what is no response goes behind all documents.
    document = torch.where(response, documents.ids.flatten(), response.numel())[order]
    document, by_document = document.sort(stable=True)
    n_response = documents.n_response
    begin = n_response.cumsum(0) - n_response
    rank = torch.arange(response.numel(), device=scores.device) - begin[document.clamp(max=response.numel() - 1)]
    kept = rank < keep_count(n_response, rho)[document.clamp(max=response.numel() - 1)]
    kept &= document < response.numel()
    flat = torch.zeros_like(response)
    flat[order[by_document]] = kept
    return flat.view_as(documents.response)


def select_tokens(
    labels: Tensor,
    *,
    log_probs: Tensor | None = None,
    history_log_probs: Tensor | None = None,
    attention: Tensor | None = None,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    rho: float = 0.6,
    gamma: float = 0.5,
) -> Tensor:
    """ssToken's choice for one batch, on tensors from anywhere:

        rel   = log_probs - history_log_probs
        score = gamma * minmax(rel) + (1 - gamma) * attention
        keep the smallest k with k / n >= rho response tokens of each document, best score first

    Everything is aligned with `labels`: entry `[b, t]` belongs to token `t` of row `b`, so `log_probs[b, t]` is
    `log p(token t | tokens before t)`, read from the logits of position `t - 1`. Values off the response are ignored.

    Args:
        labels: (B, S) int64, -100 where there is nothing to learn.
        log_probs: (B, S) float, under the current model. May be None if gamma is 0.
        history_log_probs: (B, S) float, under the history model. May be None if gamma is 0.
        attention: (B, S) float, attention mass on the prompt. May be None if gamma is 1.
        attention_mask, position_ids: as the model gets them; see `Documents.from_labels`.

    Returns:
        (B, S) float32 weights: 1 on kept tokens, 0 elsewhere.

    >>> labels = torch.tensor([[-100, -100, 5, 6, 7, 8]])
    >>> rel = torch.tensor([[0.0, 0.0, 0.3, 0.1, 0.2, 0.4]])
    >>> select_tokens(labels, log_probs=rel, history_log_probs=torch.zeros(1, 6), gamma=1.0, rho=0.5)
    tensor([[0., 0., 1., 0., 0., 1.]])
    """
    documents = Documents.from_labels(labels, attention_mask, position_ids)
    rel = None
    if log_probs is not None and history_log_probs is not None:
        rel = retrospective_excess_loss(log_probs, history_log_probs)
    return keep_best(sstoken_score(documents, rel, attention, gamma), documents, rho).float()


def weighted_nll(log_probs: Tensor, weights: Tensor, denominator: Tensor | float) -> Tensor:
    """`-(weights * log_probs).sum() / denominator`: the training loss of one micro-batch.

    With 0/1 weights and, as denominator, the number of kept tokens of the whole optimizer step (all micro-batches, all
    processes) this is cross-entropy over the kept tokens, whatever the batch and accumulation sizes. A denominator of
    0 (nothing to learn in the whole step) gives 0, and the result can still be back-propagated.
    """
    denominator = torch.as_tensor(denominator, dtype=torch.float32, device=log_probs.device)
    return -(weights * log_probs).sum() / torch.where(denominator > 0, denominator, 1)
