"""What trainers get in place of the model's own outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from sstoken_plugins import TokenSelector, weighted_nll


@dataclass
class SelectedTokensOutput(ModelOutput):
    """The loss over the selected tokens, and the fields that the trainers in use read of a forward pass without
    logits.

    `transformers`, Axolotl and ms-swift take `loss`. TRL from 1.16 on makes the loss of `log_probs`, which
    carry the weights here, and its metrics of `entropy`, `is_top1` and `label_mask`; before, it takes `loss` and the
    three counts. The metrics are over all response tokens, as in plain fine-tuning.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    log_probs: Tensor | None = None
    entropy: Tensor | None = None
    is_top1: Tensor | None = None
    label_mask: Tensor | None = None
    aux_loss: Tensor | None = None
    num_valid_tokens: Tensor | None = None
    entropy_sum: Tensor | None = None
    num_correct_tokens: Tensor | None = None


class SelectingModel:
    """Stands in for the model in one call of a trainer's `compute_loss`, which only calls it.

    So everything that trainers and other plugins do around that call (their metrics, their scaling) stays as it is.
    """

    def __init__(self, model: nn.Module, selector: TokenSelector, step: int, aux_loss_scale: float) -> None:
        self._model = model
        self._selector = selector
        self._step = step
        self._aux_loss_scale = aux_loss_scale

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, num_items_in_batch: Tensor | None = None, **inputs: Any) -> SelectedTokensOutput:
        forward, selection = self._selector.forward(self._model, inputs, self._step)
        denominator = (
            self._selector.denominator(inputs, self._step) if num_items_in_batch is None else num_items_in_batch
        )
        # Losing no parameter from the autograd graph matters to wrappers that watch the model's outputs.
        log_probs = selection.weights * forward.log_probs + 0.0 * _connection(forward.outputs)
        loss = weighted_nll(log_probs, selection.documents.response, denominator)
        aux_loss = getattr(forward.outputs, "aux_loss", None)
        if aux_loss is not None:
            loss = loss + self._aux_loss_scale * aux_loss.to(loss.device)
        response = selection.documents.response
        entropy, is_top1 = forward.values["entropy"], forward.values["is_top1"]
        return SelectedTokensOutput(
            loss=loss,
            log_probs=log_probs,
            entropy=entropy,
            is_top1=is_top1,
            label_mask=response,
            aux_loss=aux_loss,
            num_valid_tokens=response.sum(),
            entropy_sum=entropy.sum(),
            num_correct_tokens=is_top1.sum(),
        )


def _connection(outputs: Any) -> Tensor:
    return torch.as_tensor(outputs.logits).float().mean()
