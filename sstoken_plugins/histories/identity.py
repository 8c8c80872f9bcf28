"""What a recording was made with."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from ..model.adapters import base_weights
from .base import TrainingRun

SAMPLE = 256


def made_by(model: Any, run: TrainingRun, adapter: str | None) -> dict[str, Any]:
    """What has to be equal for recorded log-probabilities to mean the same, as JSON values.

    Args:
        adapter: fingerprint of the history's adapter; None for the base model.

    Returns:
        For a model on the meta device, whose weights nobody knows, less than for others.
    """
    known = {"adapter": adapter, "tokenizer": run.tokenizer}
    weights = dict(base_weights(model))
    if any(parameter.is_meta for parameter in weights.values()):
        return known
    return {"model": fingerprint(weights), **known, "precision": precision(model, weights, run.precision)}


def fingerprint(weights: dict[str, nn.Parameter]) -> str:
    """A hash of every tensor's name, shape and 256 of its values: training a model at all changes nearly every one."""
    digest = hashlib.sha256()
    for name, parameter in sorted(weights.items()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        state = getattr(parameter, "quant_state", None)
        for tensor in (parameter.data, getattr(state, "absmax", None)):
            if isinstance(tensor, Tensor) and tensor.numel():
                digest.update(_sample(tensor).numpy().tobytes())
    return digest.hexdigest()


def precision(model: Any, weights: dict[str, nn.Parameter], autocast: str) -> str:
    """The formats that the model computes in, such as "bfloat16, nf4, autocast no"."""
    formats = set()
    for parameter in weights.values():
        state = getattr(parameter, "quant_state", None)
        formats.add(str(getattr(state, "quant_type", parameter.dtype)).removeprefix("torch."))
    return ", ".join([*sorted(formats), f"autocast {autocast}"])


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    indices = torch.linspace(0, flat.numel() - 1, min(SAMPLE, flat.numel()), dtype=torch.float64, device=flat.device)
    return flat[indices.long()].contiguous().view(torch.uint8).cpu()
