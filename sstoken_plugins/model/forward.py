"""One forward pass that gives both what to learn and what to choose by."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Documents, MicroBatch
from ..errors import refused
from .head import TokenLogProbs, log_probs_of_logits, token_log_probs
from .logits import STATISTICS, Statistic

Recorder = Callable[[Documents], contextlib.AbstractContextManager[list[Tensor]]]
"""Opened around a forward pass; its list then holds one (B, S) tensor of what was recorded."""


class UnreadableHead(ValueError):
    """The log-probabilities can only be read from the model's own logits. The message is the end of "because"."""


@dataclass
class TokenForward:
    """Per-token results of a forward pass, (B, S), aligned with the labels; 0 off the response.

    Attributes:
        log_probs: float32, differentiable if the pass was.
        values: statistics of the head and what recorders recorded, by name; no gradient.
        outputs: what the model returned.
    """

    log_probs: Tensor
    values: dict[str, Tensor]
    outputs: Any


def unwrapped(model: nn.Module) -> nn.Module:
    """The transformers or PEFT model inside DDP and its like."""
    while not hasattr(model, "get_output_embeddings") and hasattr(model, "module"):
        inner = model.module
        assert isinstance(inner, nn.Module)
        model = inner
    return model


def token_forward(
    model: nn.Module,
    inputs: Mapping[str, Any],
    documents: Documents | None = None,
    *,
    statistics: Mapping[str, Statistic] = STATISTICS,
    recorders: Mapping[str, Recorder] = MappingProxyType({}),
    n_kept: int | None = None,
) -> TokenForward:
    """Runs `model(**inputs)` without labels and without logits.

    Args:
        model: possibly wrapped (DDP, FSDP). Gradients flow if autograd is on.
        inputs: the batch as the collator gives it, with `labels`.
        documents: of the batch, if they are known already.
        statistics: what is wanted of the distributions beside the log-probabilities, by name.
        recorders: what else to record in the same pass, by name, such as `PromptAttention.record`.
        n_kept: how many tokens will be trained at most, if that is known: then backward need not count them.

    Raises:
        UnreadableHead: if the model computes its logits without its output head.
        Refused: if the probed layer did not run.
    """
    batch = MicroBatch.of(inputs) if documents is None else MicroBatch(inputs, documents)
    inner = unwrapped(model)
    with (
        token_log_probs(inner, batch.labels, batch.documents, statistics, n_kept) as captured,
        _recording(recorders, batch.documents) as recorded,
    ):
        outputs = model(**batch.model_inputs())
    if len(captured) != 1:
        raise UnreadableHead(
            f"{type(inner).__name__} ran its output head {len(captured)} times in a forward pass, where once was "
            "expected (another patch of its forward or loss may cause this)"
        )
    return _result(captured[0], recorded, outputs, batch.documents)


@torch.no_grad()
def logits_forward(
    model: nn.Module,
    inputs: Mapping[str, Any],
    documents: Documents | None = None,
    *,
    statistics: Mapping[str, Statistic] = STATISTICS,
    recorders: Mapping[str, Recorder] = MappingProxyType({}),
) -> TokenForward:
    """What `token_forward` gives, from the model's own logits: for any model, at the price of logits of all tokens.

    Without gradient.
    """
    batch = MicroBatch.of(inputs) if documents is None else MicroBatch(inputs, documents)
    with _recording(recorders, batch.documents) as recorded:
        outputs = model(**batch.model_inputs())
    scores = log_probs_of_logits(outputs.logits, batch.labels, batch.documents, statistics)
    return _result(scores, recorded, outputs, batch.documents)


@contextlib.contextmanager
def _recording(recorders: Mapping[str, Recorder], documents: Documents) -> Iterator[dict[str, list[Tensor]]]:
    with contextlib.ExitStack() as stack:
        recorded = {name: stack.enter_context(recorder(documents)) for name, recorder in recorders.items()}
        yield recorded
    for name, values in recorded.items():
        if not values:
            raise refused(
                "Nothing was recorded of the {name}: its layer did not go through transformers' attention interface, "
                "since another patch replaces it. Switch that off, or set {gamma} to 1 to select by the excess loss "
                "alone.",
                name=name,
            )


def _result(
    scores: TokenLogProbs, recorded: Mapping[str, list[Tensor]], outputs: Any, documents: Documents
) -> TokenForward:
    response = documents.response.to(scores.log_probs.device)
    # Rows of padding attend to nothing, of which some kernels make NaN.
    found = {name: torch.where(response, values[0].to(response.device), 0) for name, values in recorded.items()}
    return TokenForward(scores.log_probs, {**scores.statistics, **found}, outputs)


@torch.no_grad()
def check_against_logits(model: nn.Module, inputs: Mapping[str, Any], tokens: int = 16) -> None:
    """Compares the log-probabilities with those of the model's own logits, on the first tokens of a batch.

    Architectures may do anything to their logits after the head. Training on numbers that are off by such a step would
    go unnoticed, so this is checked once, on a handful of tokens, before the first step.

    Raises:
        UnreadableHead: if they differ.
    """
    mask = inputs.get("attention_mask")
    start = int((mask[0] != 0).int().argmax()) if mask is not None else 0
    ids = inputs["input_ids"][:1, start : start + tokens]
    documents = Documents.from_labels(ids)
    ours = token_forward(model, {"input_ids": ids, "labels": ids}, documents, statistics={}).log_probs
    logits = model(input_ids=ids, use_cache=False).logits
    theirs = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    low_precision = logits.dtype != torch.float32 or torch.is_autocast_enabled(logits.device.type)
    low_precision |= any(p.dtype in (torch.bfloat16, torch.float16) for p in unwrapped(model).parameters())
    difference = (ours[:, 1:] - theirs).abs().max().item() if ids.shape[1] > 1 else 0.0
    if not difference <= (0.25 if low_precision else 1e-3):
        raise UnreadableHead(
            f"the per-token log-probabilities of {type(unwrapped(model)).__name__} differ by {difference:.3g} from "
            "those of its own logits, which it changes in a way that is unknown here (please report the architecture)"
        )
