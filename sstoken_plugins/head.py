"""Per-token log-probabilities straight from the output head: no logits of shape (batch, sequence, vocabulary)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Logits that exist at one time, in elements: 64 MiB in float32.
CHUNK_ELEMENTS = 1 << 24


@dataclass
class TokenLogProbs:
    """What the head says of each response token; 0 (False) everywhere else. All (B, S), aligned with the labels."""

    log_probs: Tensor
    entropy: Tensor
    is_top1: Tensor


class _ChunkedLogProbs(torch.autograd.Function):
    """log_softmax(project(hidden))[targets], row chunk by row chunk, recomputed in backward.

    Backward visits only the rows whose gradient is not zero: tokens that were not selected cost nothing there.
    """

    @staticmethod
    def forward(
        ctx: Any,
        project: Callable[[Tensor], Tensor],
        rows_per_chunk: int,
        targets: Tensor,
        hidden: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        log_probs = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        entropy = torch.empty_like(log_probs)
        is_top1 = torch.empty_like(targets, dtype=torch.bool)
        for rows in torch.split(torch.arange(targets.numel(), device=hidden.device), rows_per_chunk):
            log_softmax = project(hidden[rows]).log_softmax(-1)
            log_probs[rows] = log_softmax.gather(-1, targets[rows, None])[:, 0]
            entropy[rows] = -(log_softmax.exp() * log_softmax).sum(-1)
            is_top1[rows] = log_softmax.argmax(-1) == targets[rows]
        ctx.project, ctx.rows_per_chunk = project, rows_per_chunk
        ctx.save_for_backward(targets, hidden, *parameters)
        ctx.autocast = _autocast_state(hidden.device.type)
        ctx.mark_non_differentiable(entropy, is_top1)
        return log_probs, entropy, is_top1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        targets, hidden, *parameters = ctx.saved_tensors
        grad_hidden = torch.zeros_like(hidden)
        # Many small chunks are added up: in bfloat16 the sum would lose what the single matmul of plain SFT keeps.
        grad_parameters = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        for rows in torch.split(grad.nonzero()[:, 0], ctx.rows_per_chunk):
            with torch.enable_grad(), ctx.autocast():
                chunk = hidden[rows].detach().requires_grad_()
                log_probs = ctx.project(chunk).log_softmax(-1).gather(-1, targets[rows, None])[:, 0]
            grads = torch.autograd.grad(log_probs, [chunk, *parameters], grad[rows], allow_unused=True)
            grad_hidden[rows] = grads[0].to(grad_hidden.dtype)
            for total, part in zip(grad_parameters, grads[1:], strict=True):
                if part is not None:
                    total += part
        return (
            None,
            None,
            None,
            grad_hidden,
            *(total.to(parameter.dtype) for total, parameter in zip(grad_parameters, parameters, strict=True)),
        )


def _autocast_state(device_type: str) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    enabled = torch.is_autocast_enabled(device_type)
    dtype = torch.get_autocast_dtype(device_type)
    return lambda: torch.autocast(device_type, dtype=dtype, enabled=enabled)


def _scaling(config: Any) -> Callable[[Tensor], Tensor]:
    """What the model does to its logits after the head, read from its configuration.

    scale * logits (Cohere, Falcon-H1, Muse), logits / scaling (Granite, MiniCPM3), cap * tanh(logits / cap) (Gemma).
    """
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    scale = 1.0
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling"):
        value = getattr(text_config, name, None)
        if value is not None:
            divides = name == "logits_scaling" and getattr(text_config, "model_type", "") != "hyperclovax"
            scale = 1 / value if divides else value
            break
    cap = getattr(text_config, "final_logit_softcapping", None)

    def scaled(logits: Tensor) -> Tensor:
        logits = logits.float()
        if scale != 1.0:
            logits = logits * scale
        return logits if cap is None else cap * torch.tanh(logits / cap)

    return scaled


def output_head(model: Any) -> nn.Module:
    """The module that turns hidden states into logits.

    Raises:
        ValueError: if the model does not name one.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not isinstance(head, nn.Module):
        raise ValueError(
            f"{type(model).__name__} names no output embeddings, so its per-token losses cannot be read: token "
            "selection needs a causal language model with an output head."
        )
    return head


@contextlib.contextmanager
def token_log_probs(model: Any, labels: Tensor, response: Tensor) -> Iterator[list[TokenLogProbs]]:
    """While open, a forward pass of `model` yields log-probabilities of the labels instead of logits.

    The naive equivalent, with `logits = model(**inputs).logits`:

        log_softmax = logits[:, :-1].float().log_softmax(-1)
        log_probs[:, 1:] = log_softmax.gather(-1, labels[:, 1:, None])[..., 0]   # 0 where `response` is False

    The head itself works chunk by chunk inside the model's own forward pass, so PEFT, DDP, FSDP and gradient
    checkpointing see nothing unusual. The pass must not get `labels`, or the model would take a loss of what is left
    of its logits: a (B, S, 1) tensor that only keeps the autograd graph of the wrapped model connected.

    Args:
        model: the unwrapped transformers or PEFT model; the call itself may go through any wrapper of it.
        labels: (B, S) int64.
        response: (B, S) bool, the positions to compute.

    Yields:
        A list that holds one `TokenLogProbs` after the forward pass.
    """
    head = output_head(model)
    original = head.forward
    replaced_before = head.__dict__.get("forward")  # accelerate's device hooks replace it too
    scale = _scaling(model.config)
    captured: list[TokenLogProbs] = []

    def project(hidden: Tensor) -> Tensor:
        return scale(original(hidden))

    def forward(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        if hidden.shape[:2] != labels.shape:
            raise ValueError(
                f"The output head of {type(model).__name__} got hidden states of shape {tuple(hidden.shape)} for "
                f"labels of shape {tuple(labels.shape)}: prompt-learning adapters and sliced logits are not supported."
            )
        # Position t - 1 predicts token t.
        predicts = response[:, 1:].to(hidden.device)
        log_probs, entropy, is_top1 = _log_probs(
            head, project, hidden[:, :-1][predicts], labels[:, 1:].to(hidden.device)[predicts]
        )
        captured.append(TokenLogProbs(*(_put_back(values, predicts) for values in (log_probs, entropy, is_top1))))
        return captured[-1].log_probs.unsqueeze(-1).to(hidden.dtype)

    head.forward = forward
    try:
        yield captured
    finally:
        if replaced_before is None:
            del head.__dict__["forward"]
        else:
            head.forward = replaced_before


def _put_back(values: Tensor, mask: Tensor) -> Tensor:
    """(N,) values to (B, S), shifted right by one. `masked_scatter` keeps the graph connected when N is 0."""
    rows = values.new_zeros(mask.shape).masked_scatter(mask, values)
    return torch.cat([rows.new_zeros(rows.shape[0], 1), rows], dim=1)


def _log_probs(
    head: nn.Module, project: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    rows_per_chunk = max(1, CHUNK_ELEMENTS // _vocabulary(head))
    parameters: Sequence[Tensor] = [p for p in head.parameters() if p.requires_grad]
    result: tuple[Tensor, Tensor, Tensor] = _ChunkedLogProbs.apply(
        project, rows_per_chunk, targets, hidden, *parameters
    )  # type: ignore[no-untyped-call]
    return result


def _vocabulary(head: nn.Module) -> int:
    for name in ("out_features", "num_embeddings"):
        if isinstance(size := getattr(head, name, None), int):
            return size
    return max((p.shape[0] for p in head.parameters() if p.dim() == 2), default=1 << 17)
