"""Per-token log-probabilities straight from the output head: no logits of shape (batch, sequence, vocabulary).

Forward and backward of the chunked head have to be read together, so they are one file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..data import Documents
from .logits import STATISTICS, LogitsChunk, Statistic

# Logits that exist at one time, in elements. On a CPU the sweeps over them should stay near its caches, but a matmul
# of few rows is dear; on other devices a matmul has to be large to be worth reading the head's weight for.
CPU_CHUNK_ELEMENTS, CHUNK_ELEMENTS = 1 << 23, 1 << 24


@dataclass
class TokenLogProbs:
    """What the head says of each response token; 0 (False) everywhere else. All (B, S), aligned with the labels.

    Attributes:
        log_probs: float32.
        statistics: by name, what was asked for.
    """

    log_probs: Tensor
    statistics: dict[str, Tensor] = field(default_factory=dict)


class _ChunkedLogProbs(torch.autograd.Function):
    """log_softmax(project(hidden))[targets], row chunk by row chunk, recomputed in backward.

    Backward visits only the rows whose gradient is not zero: tokens that were not selected cost nothing there.
    """

    @staticmethod
    def forward(
        ctx: Any,
        project: Callable[[Tensor], Tensor],
        rows_per_chunk: int,
        statistics: Sequence[Statistic],
        n_kept: int | None,
        targets: Tensor,
        hidden: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        pairs = zip(torch.split(hidden, rows_per_chunk), torch.split(targets, rows_per_chunk), strict=True)
        log_z, log_probs, *numbers = _joined(_read(project(some), wanted, statistics) for some, wanted in pairs)
        ctx.project, ctx.rows_per_chunk, ctx.n_kept = project, rows_per_chunk, n_kept
        ctx.save_for_backward(targets, hidden, log_z, *parameters)
        ctx.autocast = _autocast_state(hidden.device.type)
        ctx.mark_non_differentiable(*numbers)
        return (log_probs, *numbers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        targets, hidden, log_z, *parameters = ctx.saved_tensors
        grad_hidden = torch.zeros_like(hidden)
        # Many small chunks are added up: in bfloat16 the sum would lose what the single matmul of plain SFT keeps.
        grad_parameters = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        for rows, grad_rows in _rows_with_gradient(grad, ctx.n_kept, ctx.rows_per_chunk):
            with torch.enable_grad(), ctx.autocast():
                chunk = hidden[rows].detach().requires_grad_()
                logits = ctx.project(chunk)
            # d log_prob / d logits = one_hot(target) - softmax, in the memory of the logits
            grad_logits = logits.detach().sub_(log_z[rows, None]).exp_().mul_(-grad_rows[:, None])
            grad_logits.scatter_add_(-1, targets[rows, None], grad_rows[:, None])
            grads = torch.autograd.grad(logits, [chunk, *parameters], grad_logits, allow_unused=True)
            grad_hidden.index_add_(0, rows, grads[0].to(grad_hidden.dtype))
            for total, part in zip(grad_parameters, grads[1:], strict=True):
                if part is not None:
                    total += part
        return (
            None,
            None,
            None,
            None,
            None,
            grad_hidden,
            *(total.to(parameter.dtype) for total, parameter in zip(grad_parameters, parameters, strict=True)),
        )


def _read(logits: Tensor, targets: Tensor, statistics: Sequence[Statistic]) -> list[Tensor]:
    """logsumexp(logits), log_softmax(logits)[targets], and the statistics: (N,) each. Overwrites the logits."""
    chunk = LogitsChunk(logits, targets)
    if not statistics:
        chunk.only_log_probs()
    numbers = [statistic(chunk) for statistic in statistics]
    return [chunk.log_z, chunk.log_probs, *numbers]


def _joined(chunks: Iterator[list[Tensor]]) -> list[Tensor]:
    return [torch.cat(parts) for parts in zip(*chunks, strict=True)]


def _rows_with_gradient(grad: Tensor, n_kept: int | None, rows_per_chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The places where `grad` (N,) is not zero, and its values there, chunk by chunk.

    Args:
        n_kept: how many there are at most. Without it they are counted, which forces a device sync.
    """
    if n_kept is None:
        rows = grad.nonzero()[:, 0]
        values = grad[rows]
    else:
        n_kept = min(n_kept, grad.numel())
        rows = torch.nonzero_static(grad, size=n_kept, fill_value=0)[:, 0]
        real = torch.arange(n_kept, device=grad.device) < grad.count_nonzero()
        values = torch.where(real, grad[rows], 0)
    yield from zip(torch.split(rows, rows_per_chunk), torch.split(values, rows_per_chunk), strict=True)


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
def token_log_probs(
    model: Any,
    labels: Tensor,
    documents: Documents,
    statistics: Mapping[str, Statistic] = STATISTICS,
    n_kept: int | None = None,
) -> Iterator[list[TokenLogProbs]]:
    """While open, a forward pass of `model` yields log-probabilities of the labels instead of logits.

    The naive equivalent, with `logits = model(**inputs).logits`:

        log_softmax = logits[:, :-1].float().log_softmax(-1)
        log_probs[:, 1:] = log_softmax.gather(-1, labels[:, 1:, None])[..., 0]   # 0 where it is no response

    The head itself works chunk by chunk inside the model's own forward pass, so PEFT, DDP, FSDP and gradient
    checkpointing see nothing unusual. The pass must not get `labels`, or the model would take a loss of what is left
    of its logits: a (B, S, 1) tensor that only keeps the autograd graph of the wrapped model connected.

    Args:
        model: the unwrapped transformers or PEFT model; the call itself may go through any wrapper of it.
        labels: (B, S) int64.
        documents: of the batch; their response tokens are computed.
        statistics: what else is wanted of the distributions, by name.
        n_kept: how many tokens will get a gradient at most, if that is known; see `_rows_with_gradient`.

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
        indices = documents.response_indices.to(hidden.device)
        parameters: Sequence[Tensor] = [p for p in head.parameters() if p.requires_grad]
        elements = CPU_CHUNK_ELEMENTS if hidden.device.type == "cpu" else CHUNK_ELEMENTS
        per_token = _ChunkedLogProbs.apply(
            project,
            max(1, elements // vocabulary_size(head)),
            tuple(statistics.values()),
            n_kept,
            labels.to(hidden.device).flatten()[indices].clamp(min=0),  # should they have changed, `Health` will say so
            hidden.flatten(0, 1)[indices - 1],  # position t - 1 predicts token t
            *parameters,
        )  # type: ignore[no-untyped-call]
        captured.append(_put_back(per_token, statistics, indices, labels.shape))
        return captured[-1].log_probs.unsqueeze(-1).to(hidden.dtype)

    head.forward = forward
    try:
        yield captured
    finally:
        if replaced_before is None:
            del head.__dict__["forward"]
        else:
            head.forward = replaced_before


@torch.no_grad()
def log_probs_of_logits(
    logits: Tensor, labels: Tensor, documents: Documents, statistics: Mapping[str, Statistic] = STATISTICS
) -> TokenLogProbs:
    """The same from logits (B, S, V), without gradient."""
    indices = documents.response_indices.to(logits.device)
    targets = labels.to(logits.device).flatten()[indices]
    rows, flat = max(1, CPU_CHUNK_ELEMENTS // logits.shape[-1]), logits.flatten(0, 1)
    pairs = zip(torch.split(indices, rows), torch.split(targets, rows), strict=True)
    wanted = tuple(statistics.values())
    # A copy: the logits may be float32 already, and are the model's.
    _, *per_token = _joined(_read(flat[some - 1].float(), target, wanted) for some, target in pairs)
    return _put_back(per_token, statistics, indices, labels.shape)


def _put_back(
    per_token: Sequence[Tensor], statistics: Mapping[str, Statistic], indices: Tensor, shape: torch.Size
) -> TokenLogProbs:
    """(T,) values of the response tokens to (B, S). The graph stays connected when T is 0."""
    log_probs, *numbers = (
        values.new_zeros(shape.numel()).index_copy(0, indices, values).view(shape) for values in per_token
    )
    return TokenLogProbs(log_probs, dict(zip(statistics, numbers, strict=True)))


def vocabulary_size(head: nn.Module) -> int:
    """How many logits it makes."""
    for name in ("out_features", "num_embeddings"):
        if isinstance(size := getattr(head, name, None), int):
            return size
    return max((p.shape[0] for p in head.parameters() if p.dim() == 2), default=1 << 17)


def known_tokens(model: Any) -> int:
    """How many tokens it has embeddings for; those that may be labels are among them."""
    embeddings = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    size = getattr(embeddings, "num_embeddings", None)
    return size if isinstance(size, int) else vocabulary_size(output_head(model))
