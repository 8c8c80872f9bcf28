"""Heads that cannot be read, and what a step costs the host."""

from __future__ import annotations

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutput

from sstoken_plugins import (
    weighted_nll,
)

from .selectors import attached, naive_weights
from .tiny import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")


class TripledLogits(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 3
        return output


class NoHead(LlamaForCausalLM):
    def forward(self, input_ids, **kwargs):
        outputs = self.model(input_ids, **kwargs)
        logits = outputs.last_hidden_state @ self.lm_head.weight.T
        return CausalLMOutput(logits=logits, attentions=outputs.attentions)


@pytest.mark.parametrize(
    ("cls", "options", "reason"),
    [
        (LlamaForCausalLM, {"target_modules": ["q_proj", "lm_head"], "lora_dropout": 0.1}, "adapter with dropout"),
        (TripledLogits, {}, "those of its own logits"),
        (NoHead, {}, "ran its output head 0 times"),
    ],
)
def test_a_head_that_cannot_be_read_leaves_the_loss_to_the_framework(lora, batch, caplog, cls, options, reason):
    def build():
        model = cls(tiny("llama").config)
        model.load_state_dict(tiny("llama").state_dict())
        return lora(model, **options).train()

    model = build()
    selector = attached(model)
    assert selector.uses_framework_loss(model, batch)
    assert reason in caplog.text
    labels, selection = selector.filtered_labels(model, batch, step=0)
    assert torch.equal(labels != -100, selection.kept)
    assert torch.equal(labels[selection.kept], batch["labels"][selection.kept])
    assert selection.kept.sum() == selector.denominator(batch)
    assert torch.equal(selection.weights, naive_weights(model.eval(), batch))
    selector.step_end(1)

    with pytest.raises(ValueError, match=f"`loss` is 'own', but it has to be the framework's, because .*{reason}"):
        attached(model, loss="own").forward(model, batch, step=0)
    with pytest.raises(RuntimeError, match=r"train on `TokenSelector\.filtered_labels`"):
        selector.forward(model, batch, step=1)


class Waits(TorchDispatchMode):
    """Counts the operations for which the host would wait for a device that is not a CPU."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "item")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put_", "index_put") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if name in self.NAMES or by_mask or (name == "repeat_interleave" and "output_size" not in (kwargs or {})):
            stack = traceback.extract_stack()
            # transformers waits to look at masks; the other reads numbers that never were on a device.
            if not any("masking_utils" in frame.filename or frame.name == "mix_int" for frame in stack):
                self.seen.append(f"{name} in {stack[-3].name}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gamma": 0.0},
        {"strategy": "random"},
        {"strategy": "full"},
        {"history": "snapshot", "refresh_steps": 1},
        {"history": "ema"},
    ],
    ids=str,
)
def test_the_host_never_waits_for_the_device_in_a_step(model, batch, options):
    selector = attached(model, **options)
    selector.forward(model, batch, step=0)
    selector.lookup(batch)  # as the data loader does
    with Waits() as waits:
        denominator = selector.denominator(batch)
        forward, selection = selector.forward(model, batch, step=1)
        weighted_nll(forward.log_probs, selection.weights, denominator).backward()
    assert waits.seen == []


def test_without_the_data_loaders_help_the_step_is_the_same(model, batch):
    selector, results = attached(model), []
    for helped in (False, True):
        if helped:
            selector.lookup(batch)
        model.zero_grad()
        forward, selection = selector.forward(model, batch, step=0)
        weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch)).backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
        results.append((selection.weights, gradients))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_labels_that_change_behind_the_data_loaders_back_stop_the_run(model, batch):
    selector = attached(model)
    selector.lookup(batch)
    batch["labels"] = torch.where(batch["labels"] == batch["labels"][0, 5], -100, batch["labels"])
    selector.forward(model, batch, step=0)
    with pytest.raises(RuntimeError, match="In step 0 the labels of a micro-batch were not those"):
        selector.step_end(1)


def test_random_selection_costs_no_pass_of_its_own(lora, batch):
    model = lora(tiny("llama"), lora_dropout=0.1).train()
    selector = attached(model, strategy="random")
    selector.forward(model, batch, 0)
    passes = []
    with_hook = model.get_base_model().model.register_forward_hook(lambda *_: passes.append(1))
    selector.forward(model, batch, 1)
    with_hook.remove()
    assert len(passes) == 1
