"""The method as one would write it down first: what this package is compared with, and nothing to train with.

Scores in passes of their own, from full logits and from the attention weights of the eager kernel; loops over samples;
removes the labels of dropped tokens, and lets the model compute its loss from full logits once more.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Trainer

RHO, GAMMA = 0.6, 0.5


class _Trainer(Trainer):
    """Takes the arguments of `SFTTrainer` that the benchmark gives it. Rows must be tokenised and of one length."""

    def __init__(
        self, model: str, args: Any, train_dataset: Any, quantization_config: Any = None, peft_config: Any = None
    ) -> None:
        from peft import get_peft_model

        loaded = AutoModelForCausalLM.from_pretrained(
            model, quantization_config=quantization_config, **args.model_init_kwargs
        )
        loaded.enable_input_require_grads()
        peft_model = get_peft_model(loaded, peft_config)
        for parameter in peft_model.parameters():
            if parameter.requires_grad and quantization_config is not None:
                parameter.data = parameter.data.to(torch.bfloat16)  # as TRL does
        super().__init__(
            model=peft_model,
            args=args,
            train_dataset=train_dataset,
            data_collator=lambda rows: {
                name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")
            },
        )


class BareTrainer(_Trainer):
    """Neither scores nor a loss to speak of: what is left of a step when the part of every method is taken away."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        hidden = model.get_base_model().model(input_ids=inputs["input_ids"], use_cache=False).last_hidden_state
        return hidden.float().square().mean()


class NaiveTrainer(_Trainer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._weights: list[Tensor] = []
        last = [module for name, module in self.model.named_modules() if name.endswith("self_attn")][-1]
        last.register_forward_hook(lambda _module, _inputs, outputs: self._weights.append(outputs[1].detach()))

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        ids, labels = inputs["input_ids"], inputs["labels"]
        with torch.no_grad():
            with model.disable_adapter():
                history = self._log_probs(model(input_ids=ids, use_cache=False).logits, ids)
            self._weights.clear()
            current = self._log_probs(model(input_ids=ids, use_cache=False).logits, ids)
            attention = self._weights[0].float().mean(1)
        filtered = torch.full_like(labels, -100)
        for row in range(len(ids)):
            response = (labels[row] != -100).nonzero()[:, 0]
            to_prompt = attention[row][:, labels[row] == -100].sum(-1)[response]
            rel = (current - history)[row][response]
            rel = (rel - rel.min()) / (rel.max() - rel.min()).clamp(min=1e-12)
            kept = response[(GAMMA * rel + (1 - GAMMA) * to_prompt).topk(math.ceil(RHO * len(response))).indices]
            filtered[row, kept] = labels[row, kept]
        self._weights.clear()
        loss = model(input_ids=ids, labels=filtered, use_cache=False).loss
        self._weights.clear()
        return loss

    @staticmethod
    def _log_probs(logits: Tensor, ids: Tensor) -> Tensor:
        log_softmax = logits[:, :-1].float().log_softmax(-1)
        log_probs = log_softmax.gather(-1, ids[:, 1:, None])[..., 0]
        return torch.nn.functional.pad(log_probs, (1, 0))
