"""The arithmetic of keeping the best tokens of each document. No model, no trainer."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data import Documents
from ..errors import Problem, refuse, refused


def check_rho(rho: float) -> None:
    """Raises:
    Refused: unless it is a fraction that keeps something.
    """
    if not 0 < rho <= 1:
        raise refused(
            "{rho} is {value!r}, but it is the fraction of tokens that trains: set it in (0, 1], for example 0.6.",
            value=rho,
        )


def check_tokens(labels: Tensor, **values: Tensor | None) -> None:
    """Raises:
    Refused: naming every tensor that does not have one number for each token.
    """
    refuse(
        Problem("{tensor} has shape {shape}, but `labels` has {expected}: pass one number for each token.",
                tensor=f"`{name}`", shape=tuple(value.shape), expected=tuple(labels.shape))
        for name, value in values.items()
        if value is not None and value.shape != labels.shape
    )  # fmt: skip


def minmax(values: Tensor, documents: Documents, eligible: Tensor | None = None) -> Tensor:
    """`(x - min) / (max - min)` over each document's response tokens; 0 where all are equal, and off the response.

    Args:
        values: (B, S) float.
        eligible: (B, S) bool, the response tokens that count; all if None.

    Returns:
        (B, S), in [0, 1].
    """
    eligible = documents.response if eligible is None else eligible
    low, high = documents.extrema(values, eligible)
    low, span = documents.broadcast(low), documents.broadcast(high - low)
    scaled = (values - low) / torch.where(span > 0, span, 1)
    return torch.where(eligible & (span > 0), scaled, 0)


def keep_count(n_response: Tensor, rho: float) -> Tensor:
    """The smallest `k` with `k / n >= rho`: 55 for 0.55 of 100, where `ceil(0.55 * 100)` is 56 in floating point.

    Args:
        n_response: int, any shape.

    Returns:
        int64, same shape; 0 where there are none.
    """
    if n_response.device.type == "mps":  # which has no float64
        return keep_count(n_response.cpu(), rho).to(n_response.device)
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
