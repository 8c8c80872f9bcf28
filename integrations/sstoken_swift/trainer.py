"""ms-swift's trainer with token selection."""

from __future__ import annotations

from typing import Any

import torch
from swift.trainers import Seq2SeqTrainer
from torch import Tensor

from sstoken_plugins import TokenSelector
from sstoken_plugins.data import IGNORE_INDEX
from sstoken_plugins.errors import named, refuse, refused
from sstoken_transformers import SSTokenTrainerMixin
from sstoken_transformers.outputs import SelectedTokensOutput, SelectingModel

from .names import own_name
from .options import token_selection
from .unsupported import unsupported_arguments


class SSTokenSwiftTrainer(SSTokenTrainerMixin, Seq2SeqTrainer):
    """swift's trainer for causal language models, with token selection as the environment asks for it.

    Raises:
        Refused: a ValueError that names every option that cannot be combined with it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with named(own_name):
            selector = TokenSelector(token_selection())
        super().__init__(*args, **kwargs)
        with named(own_name):
            refuse(unsupported_arguments(self.args, self.template, selector))
            self.args.use_logits_to_keep = False  # the labels stay beside their tokens; logits are never built
            self.args.average_tokens_across_devices = self.args.world_size > 1
            self.enable_token_selection(selector)
        self.accelerator.print(f"ssToken is on: {selector.summary}")

    def train(self, *args: Any, **kwargs: Any) -> Any:
        with named(own_name):
            return super().train(*args, **kwargs)

    def selecting_model(self, model: Any, step: int) -> SelectingModel:
        assert self.token_selector is not None
        return _MeanOfLabels(model, self.token_selector, step, self._coefficient())

    def _coefficient(self) -> float:
        config = self.model.config.get_text_config()
        on = getattr(config, "output_router_logits", False) or self.args.router_aux_loss_coef
        return float(self.args.router_aux_loss_coef or 0) if on else 0.0


class _MeanOfLabels(SelectingModel):
    """swift takes a model's loss for the mean over the labels, and multiplies it by their share of the step's
    denominator: so it gets `-(weights * log_probs).sum() / n_labels`."""

    def __call__(self, num_items_in_batch: Tensor | None = None, **inputs: Any) -> SelectedTokensOutput:
        n_labels = (inputs["labels"][:, 1:] != IGNORE_INDEX).sum().clamp(min=1)
        return super().__call__(n_labels.to(torch.float32), **inputs)


class NoSelection:
    """In the place of swift's other trainers, which would train without selection in silence."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise refused(
            "`external_plugins` has sstoken_swift, but this run is not supervised fine-tuning of a causal language "
            "model (`swift sft`, `swift pt`): remove it from `external_plugins`."
        )
