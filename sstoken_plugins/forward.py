"""One forward pass that gives both what to learn and what to choose by."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .attention import PromptAttention
from .documents import Documents
from .head import TokenLogProbs, log_probs_of_logits, token_log_probs

OWN_ENTRIES = "sstoken_"
# Arguments of the loss, which is computed here and not by the model.
_LOSS_ARGUMENTS = frozenset(
    ("labels", "shift_labels", "num_items_in_batch", "fused_lm_head", "skip_logits", "return_token_accuracy",
     "use_token_scaling")
)  # fmt: skip


class UnreadableHead(ValueError):
    """The log-probabilities can only be read from the model's own logits. The message is the end of "because"."""


@dataclass
class TokenForward:
    """Per-token results of a forward pass, (B, S), aligned with the labels; 0 off the response.

    Attributes:
        log_probs: float32, differentiable if the pass was.
        entropy: float32, of the distribution that predicted the token, in nats; None if not asked for.
        is_top1: bool, whether the label was the most likely token; None if not asked for.
        attention: float32, mass that the token's own query puts on its document's prompt; None if not asked for.
        outputs: what the model returned.
    """

    log_probs: Tensor
    entropy: Tensor | None
    is_top1: Tensor | None
    attention: Tensor | None
    outputs: Any


def unwrapped(model: nn.Module) -> nn.Module:
    """The transformers or PEFT model inside DDP and its like."""
    while not hasattr(model, "get_output_embeddings") and hasattr(model, "module"):
        model = model.module  # type: ignore[assignment]
    return model


def model_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the model gets of a batch: neither the arguments of its loss nor what lookups added, and no cache."""
    ours = {
        name: value
        for name, value in inputs.items()
        if name not in _LOSS_ARGUMENTS and not name.startswith(OWN_ENTRIES)
    }
    return {**ours, "use_cache": False}


def token_forward(
    model: nn.Module,
    inputs: Mapping[str, Any],
    documents: Documents,
    probe: PromptAttention | None = None,
    *,
    statistics: bool = True,
    n_kept: int | None = None,
) -> TokenForward:
    """Runs `model(**inputs)` without labels and without logits.

    Args:
        model: possibly wrapped (DDP, FSDP). Gradients flow if autograd is on.
        inputs: the batch as the collator gives it, with `labels`.
        probe: records the attention to the prompt in the same pass.
        statistics: whether the entropy and the most likely token are wanted too.
        n_kept: how many tokens will be trained at most, if that is known: then backward need not count them.

    Raises:
        UnreadableHead: if the model computes its logits without its output head.
        ValueError: if the probed layer did not run.
    """
    inner = unwrapped(model)
    with (
        token_log_probs(inner, inputs["labels"], documents, statistics, n_kept) as captured,
        _recording(probe, documents) as recorded,
    ):
        outputs = model(**model_inputs(inputs))
    if len(captured) != 1:
        raise UnreadableHead(
            f"{type(inner).__name__} ran its output head {len(captured)} times in a forward pass, where once was "
            "expected (another patch of its forward or loss may be in the way)"
        )
    return _result(captured[0], recorded, outputs)


@torch.no_grad()
def logits_forward(
    model: nn.Module, inputs: Mapping[str, Any], documents: Documents, probe: PromptAttention | None = None
) -> TokenForward:
    """What `token_forward` gives, from the model's own logits: for any model, at the price of logits of all tokens.

    Without gradient.
    """
    with _recording(probe, documents) as recorded:
        outputs = model(**model_inputs(inputs))
    return _result(log_probs_of_logits(outputs.logits, inputs["labels"], documents), recorded, outputs)


@contextlib.contextmanager
def _recording(probe: PromptAttention | None, documents: Documents) -> Iterator[list[Tensor]]:
    if probe is None:
        yield []
        return
    with probe.record(documents.prompt) as recorded:
        yield recorded
    if not recorded:
        raise ValueError(
            f"The attention layer {type(probe.module).__name__} did not go through transformers' attention interface: "
            "another patch replaces it. Switch that off, or set `gamma` to 1 to select by the excess loss alone."
        )


def _result(scores: TokenLogProbs, recorded: list[Tensor], outputs: Any) -> TokenForward:
    return TokenForward(
        log_probs=scores.log_probs,
        entropy=scores.entropy,
        is_top1=scores.is_top1,
        attention=recorded[0].to(scores.log_probs.device) if recorded else None,
        outputs=outputs,
    )


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
    ours = token_forward(model, {"input_ids": ids, "labels": ids}, documents, statistics=False).log_probs
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
