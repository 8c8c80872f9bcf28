"""On a CUDA device: the same selection and gradients as naive code, and no step that waits for the device."""

from __future__ import annotations

import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model

from sstoken_plugins import SSTokenConfig, TokenSelector, weighted_nll

from . import oracle
from .tiny import VOCABULARY, tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def make(attention: str = "sdpa", dtype: torch.dtype = torch.float32):
    model = tiny("llama", attention)
    torch.manual_seed(0)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.to("cuda", dtype).train()


def make_batch(rows: int = 4, length: int = 40) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :8] = -100
    mask = torch.ones_like(ids)
    mask[0, -5:], labels[0, -5:] = 0, -100
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def on_device(batch):
    return {name: value.to("cuda") for name, value in batch.items()}


@pytest.mark.filterwarnings("ignore:`history` is 'base'")
def test_a_step_equals_naive_code():
    model, batch = make(), on_device(make_batch())
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    model.eval()
    with torch.no_grad():
        model.get_base_model().set_attn_implementation("eager")
        outputs = model(**inputs, output_attentions=True)
        model.get_base_model().set_attn_implementation("sdpa")
        current, _, _ = oracle.read_logits(outputs.logits.cpu(), batch["input_ids"].cpu())
        with model.disable_adapter():
            history, _, _ = oracle.read_logits(model(**inputs).logits.cpu(), batch["input_ids"].cpu())
    prompt = (batch["labels"] == -100) & (batch["attention_mask"] != 0)
    attention = (outputs.attentions[-1] * prompt[:, None, None, :]).sum(-1).mean(1).cpu()
    expected = oracle.select(
        batch["labels"].cpu(), current - history, attention, 0.6, 0.5, batch["attention_mask"].cpu()
    )
    model.train()
    selector = TokenSelector(SSTokenConfig())
    selector.attach(model)
    forward, selection = selector.forward(model, batch, step=0)
    assert torch.equal(selection.weights.cpu(), expected)
    loss = weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch))
    loss.backward()
    naive = -(current.double() * expected).sum() / expected.sum()
    assert loss.item() == pytest.approx(naive.item(), abs=1e-5)
    selector.step_end(1)


@pytest.mark.filterwarnings("ignore:`history` is 'base'")
@pytest.mark.parametrize("history", ["base", "last_visit"])
def test_no_step_waits_for_the_device(history):
    """With the index that the data loader makes, this package reads nothing back before the step ends."""
    model, batch = make(dtype=torch.bfloat16), make_batch()
    del batch["attention_mask"]  # transformers reads a padding mask back itself
    selector = TokenSelector(SSTokenConfig(history=history))
    selector.attach(model)
    selector.lookup(batch)
    batch = {name: value.to("cuda") for name, value in batch.items()}
    selector.forward(model, batch, step=0)[0].log_probs.sum().backward()
    selector.step_end(1)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            denominator = selector.denominator(batch, 1)
            forward, selection = selector.forward(model, batch, step=1)
            weighted_nll(forward.log_probs, selection.weights, denominator.to("cuda", non_blocking=True)).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # transformers looks at masks and positions itself.
    assert not [each for each in caught if "synchronizing" in str(each.message) and "sstoken" in each.filename]
    selector.step_end(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_is_that_of_chunks(dtype):
    """(B, S, V) logits would take 2 GB in float32; the pass with its scores stays far below."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=128_000, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2
    )
    model = get_peft_model(
        LlamaForCausalLM(config), LoraConfig(target_modules="all-linear", exclude_modules="lm_head")
    )
    model = model.to("cuda", dtype).train()
    ids = torch.randint(0, 128_000, (2, 2048), device="cuda")
    labels = ids.clone()
    labels[:, :512] = -100
    selector = TokenSelector(SSTokenConfig())
    selector.attach(model)
    batch = {"input_ids": ids, "labels": labels}
    selector.forward(model, batch, 0)
    selector.step_end(1)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    forward, selection = selector.forward(model, batch, 1)
    weighted_nll(forward.log_probs, selection.weights, 1).backward()
    assert torch.cuda.max_memory_allocated() - before < 1.4e9
