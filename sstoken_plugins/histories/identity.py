"""What a recording was made with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..data.hashing import mix
from ..model.adapters import base_buffers, base_weights
from ..model.sharded import gathered
from .base import TrainingRun

# Entries of a model's configuration that change no log-probability: where it came from, what it returns beside logits,
# how it begins and is regularised in training, which kernels run it, which tokens generation and padding use.
COSMETIC = frozenset((
    "_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "architectures",
    "auto_map", "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "_experts_implementation", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id",
    "is_decoder", "task_specific_params", "return_dict", "output_attentions", "output_hidden_states",
    "output_router_logits", "router_aux_loss_coef", "id2label", "label2id", "num_labels", "problem_type",
    "finetuning_task", "initializer_range", "initializer_factor", "pretraining_tp", "chunk_size_feed_forward",
    "quantization_config", "unsloth_version", "unsloth_fixed",
))  # fmt: skip
WORDS = 1 << 14
"""Tensors are hashed in rows of so many words of 8 bytes."""


def made_by(model: Any, run: TrainingRun, adapter: str | None) -> dict[str, Any]:
    """What has to be equal for recorded log-probabilities to mean the same, as JSON values.

    Args:
        adapter: fingerprint of the history's adapter; None for the base model.

    Returns:
        For a model on the meta device, whose weights are unknown, less than for others.
    """
    known = {"adapter": adapter, "tokenizer": run.tokenizer, "configuration": configuration(model)}
    weights = dict(base_weights(model))
    if any(parameter.is_meta for parameter in weights.values()):
        return known
    model_hash = fingerprint({**weights, **dict(base_buffers(model))})
    return {"model": model_hash, **known, "precision": precision(model, weights, run.precision)}


def configuration(model: Any) -> dict[str, Any]:
    """What of the model's configuration changes its outputs, where it differs from the architecture's defaults.

    Returns:
        JSON values, nested names joined by dots: {"model_type": "llama", "rope_parameters.rope_theta": 500000.0, ...}.
        Empty for a model without a configuration.
    """
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "to_diff_dict"):
        return {}
    entries = {"model_type": getattr(config, "model_type", ""), **config.to_diff_dict()}
    told: dict[str, Any] = json.loads(json.dumps(dict(_flat(entries)), default=str))
    return told


def _flat(entries: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in sorted(entries.items(), key=lambda item: str(item[0])):
        if name in COSMETIC or "dropout" in str(name) or str(name).endswith("_pdrop"):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A hash of every tensor's name, shape, format and all of its bytes, those of 4-bit weights' scales included."""
    digest = hashlib.sha256()
    for name, parameter in sorted(weights.items()):
        with gathered(parameter):
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
            for tensor in (parameter.detach(), *_scales(getattr(parameter, "quant_state", None))):
                digest.update(hash_bytes(tensor).to_bytes(8, "little", signed=True))
    return digest.hexdigest()


def hash_bytes(tensor: Tensor) -> int:
    """64 bits that follow from all bytes of a tensor, whatever device it is on: they are read there, once.

        rows   = bytes as int64, in rows of 2**14
        result = sum over rows r, columns c of rows[r, c] * m(c) * m(r)        m odd, arithmetic modulo 2**64

    An odd factor takes different words to different ones, so a change of any single word changes the result.
    """
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if flat.data_ptr() % 8:  # words begin where they are aligned
        flat = flat.clone()
    whole = flat.numel() // (8 * WORDS) * (8 * WORDS)
    rest = torch.zeros(8 * WORDS, dtype=torch.uint8, device=flat.device)
    rest[: flat.numel() - whole] = flat[whole:]
    column = _odd(0, WORDS, flat.device)
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    number, at_once = 0, 8 if flat.device.type == "cpu" else 512  # what fits a cache; what fills a GPU
    for part in (*torch.split(flat[:whole], 8 * WORDS * at_once), rest):
        rows = part.view(torch.int64).view(-1, WORDS)
        total += ((rows * column).sum(1) * _odd(number + (1 << 40), len(rows), flat.device)).sum()
        number += len(rows)
    return int(total)


def _odd(begin: int, n: int, device: torch.device) -> Tensor:
    return mix(torch.arange(begin, begin + n, device=device)) | 1


def precision(model: Any, weights: Mapping[str, nn.Parameter], autocast: str) -> str:
    """The formats that the model computes in, such as "bfloat16, nf4, autocast no"."""
    formats = set()
    for parameter in weights.values():
        state = getattr(parameter, "quant_state", None)
        formats.add(str(getattr(state, "quant_type", parameter.dtype)).removeprefix("torch."))
    return ", ".join([*sorted(formats), f"autocast {autocast}"])


def _scales(state: Any) -> Iterator[Tensor]:
    """The tensors of a 4-bit weight beside its codes, also where its scales are quantised again."""
    while state is not None:
        for tensor in (getattr(state, name, None) for name in ("absmax", "code", "offset")):
            if isinstance(tensor, Tensor):
                yield tensor
        state = getattr(state, "state2", None)
