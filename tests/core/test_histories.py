"""Earlier selves: they compute what a separate model would, and leave the one in training exactly as it was."""

from __future__ import annotations

import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from sstoken_plugins import Documents, TokenSelector, token_forward, weighted_nll
from sstoken_plugins.histories.adapter import AdapterHistory
from sstoken_plugins.histories.below_adapter import BaseHistory

from .selves import BASE, assert_same_state, attached, from_adapter, history_log_probs, own_log_probs, state_of


def test_base_is_the_model_without_its_adapter(load, lora, batch):
    model = lora(load())
    history = history_log_probs(attached(model, BASE), model, batch)
    assert torch.equal(history, own_log_probs(load(), batch))
    assert not torch.allclose(history, own_log_probs(model, batch), atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"r": 8}, {"target_modules": ["q_proj"]}, {"use_rslora": True, "r": 2}])
def test_adapter_is_a_separate_model_with_that_adapter(load, load_plain, lora, batch, tmp_path, options):
    lora(load_plain(), seed=5, **options).save_pretrained(tmp_path)
    model = lora(load(), seed=1, r=4)
    before = own_log_probs(model, batch)
    history = history_log_probs(attached(model, from_adapter(tmp_path)), model, batch)
    separate = PeftModel.from_pretrained(load(), tmp_path)
    assert torch.equal(history, own_log_probs(separate, batch))
    assert torch.equal(own_log_probs(model, batch), before)
    assert not torch.allclose(history, before, atol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["base", "adapter"])
def test_rel_is_exactly_zero_when_both_are_equal(load, lora, batch, tmp_path, kind, dropout):
    model = lora(load(), seed=5, learned=kind == "adapter", lora_dropout=dropout).train()
    for parameter in model.parameters():
        if parameter.requires_grad and model.dtype == torch.bfloat16:
            parameter.data = parameter.data.bfloat16()
    model.save_pretrained(tmp_path)
    selector = attached(model, BASE if kind == "base" else from_adapter(tmp_path))
    _, selection = selector.forward(model, batch, step=0)
    assert not selection.signals["rel"].any()


@pytest.mark.parametrize("kind", ["base", "adapter"])
@pytest.mark.parametrize("failing", [False, True])
def test_a_history_pass_leaves_the_model_as_it_was(load, lora, batch, adapter, kind, failing):
    model = lora(load(), lora_dropout=0.1)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    model.train()
    next(p for p in model.parameters() if p.requires_grad).requires_grad_(False)  # a part the user has frozen
    model.base_model.model.model.layers[0].eval()
    modules, before = list(model.modules()), state_of(model, list(model.modules()))
    selector = attached(model, BASE if kind == "base" else from_adapter(adapter))
    after = state_of(model, modules)
    assert all("sstoken_history" in name for name in after["weights"].keys() - before["weights"].keys())
    after["weights"] = {name: after["weights"][name] for name in before["weights"]}
    assert_same_state(before, after)

    before = state_of(model)
    if failing:
        with pytest.raises(RuntimeError, match="in between"), selector.history.active(model):
            raise RuntimeError("in between")
    else:
        history_log_probs(selector, model, batch)
    assert_same_state(before, state_of(model))


@pytest.mark.parametrize("kind", ["base", "adapter"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_under_checkpointing_are_those_of_training_alone(load, lora, batch, adapter, kind, reentrant):
    model = lora(load())
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    model.train()
    documents = Documents.from_batch(batch)
    weighted_nll(token_forward(model, batch, documents).log_probs, documents.response, 3).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()

    config = BASE if kind == "base" else from_adapter(adapter)
    selector = attached(model, config.replace(rho=1.0))
    forward, selection = selector.forward(model, batch, step=0)
    weighted_nll(forward.log_probs, selection.weights, 3).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert gradients.keys() == expected.keys()
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)
    assert all(p.grad is None for name, p in model.named_parameters() if "sstoken_history" in name)


def train(model, selector, batch, steps: int = 2):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for step in range(steps):
        forward, selection = selector.forward(model, batch, step)
        weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch)).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", ["base", "adapter"])
def test_the_history_itself_does_not_train(load, lora, batch, adapter, kind):
    model = lora(load()).train()
    selector = attached(model, BASE if kind == "base" else from_adapter(adapter))
    before = history_log_probs(selector, model, batch)
    current = own_log_probs(model, batch)
    train(model, selector, batch)
    assert torch.equal(history_log_probs(selector, model, batch), before)
    assert not torch.equal(own_log_probs(model, batch), current)


@pytest.mark.parametrize("name", ["default", "sstoken_history", "sst", "o", "lora", "self_attn"])
def test_only_the_trained_adapter_is_saved_and_plain_peft_loads_it(load, lora, batch, adapter, tmp_path, name):
    model = load()
    torch.manual_seed(1)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"), adapter_name=name)
    selector = attached(model, from_adapter(adapter))
    train(model, selector, batch)
    model.save_pretrained(tmp_path / "out")
    saved = tmp_path / "out" / ("" if name == "default" else name)
    assert [f.parent for f in (tmp_path / "out").rglob("adapter_model.safetensors")] == [saved]
    with safe_open(saved / "adapter_model.safetensors", "pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping, only looks like one
    assert len(weights) == sum(p.requires_grad for p in model.parameters())
    assert not any(selector.history.name in key for key in [*weights, *model.state_dict()])
    loaded = PeftModel.from_pretrained(load(), saved)
    model.eval()
    loaded.eval()
    with torch.no_grad():
        ids = {name: batch[name] for name in ("input_ids", "attention_mask")}
        assert torch.equal(loaded(**ids).logits, model(**ids).logits)


def test_only_the_trained_adapter_is_merged(load_plain, lora, batch, adapter):
    model, plain = lora(load_plain()), lora(load_plain())
    attached(model, from_adapter(adapter))
    merged, expected = model.merge_and_unload().state_dict(), plain.merge_and_unload().state_dict()
    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[name], expected[name]) for name in expected)


def test_dropout_of_the_earlier_adapter_costs_no_scoring_pass(load_plain, lora, batch, tmp_path):
    lora(load_plain(), seed=5, lora_dropout=0.3).save_pretrained(tmp_path)
    model = lora(load_plain()).train()
    selector = attached(model, from_adapter(tmp_path))
    selector.forward(model, batch, step=0)  # the first one compares with the model's own logits
    passes = []
    model.base_model.model.model.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    history = history_log_probs(selector, model, batch)
    assert sorted(passes) == [False, True]
    assert torch.equal(history, own_log_probs(PeftModel.from_pretrained(load_plain(), tmp_path), batch))


@pytest.mark.parametrize("which", ["trained", "earlier", "both"])
def test_adapters_that_save_whole_modules(load_plain, lora, batch, tmp_path, which):
    def saves(name):
        return {"modules_to_save": ["lm_head"]} if which in (name, "both") else {}

    def changed(model, seed):
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.data += torch.randn_like(parameter) * 0.1
        return model

    changed(lora(load_plain(), seed=5, **saves("earlier")), 5).save_pretrained(tmp_path)
    model = changed(lora(load_plain(), seed=1, **saves("trained")), 1)
    trainable, before = [n for n, p in model.named_parameters() if p.requires_grad], own_log_probs(model, batch)
    history = history_log_probs(attached(model, from_adapter(tmp_path)), model, batch)
    assert torch.equal(history, own_log_probs(PeftModel.from_pretrained(load_plain(), tmp_path), batch))
    assert torch.equal(own_log_probs(model, batch), before)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == trainable
    base = history_log_probs(attached(model, BASE), model, batch) if which == "trained" else None
    assert base is None or torch.equal(base, own_log_probs(load_plain(), batch))


def test_evaluation_does_not_break_4bit_gradients_on_cpus_that_repack(base_folder, lora, batch):
    """bitsandbytes repacks 4-bit layers in evaluation on CPUs with AVX512-BF16, and trains on wrongly from then on."""
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16, quantization_config=quantised)
    model = lora(model)
    selector = attached(model, BASE)
    documents = Documents.from_batch(batch)

    def gradients():
        model.train()
        model.zero_grad()
        weighted_nll(token_forward(model, batch, documents).log_probs, documents.response, 3).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}

    before = gradients()
    model.eval()
    history_log_probs(selector, model, batch)
    with torch.no_grad():
        model(batch["input_ids"])
    after = gradients()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_base_warns_when_training_continues_from_a_learned_adapter(load_plain, lora):
    with pytest.warns(UserWarning, match="continues from an adapter that has learned already"):
        TokenSelector(BASE).attach(lora(load_plain()))
    fresh = lora(load_plain(), learned=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TokenSelector(BASE).attach(fresh)


def test_whole_modules_that_the_adapter_saves_are_no_part_of_the_base(load_plain, lora, batch):
    model = lora(load_plain(), target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"]).train()
    selector = attached(model, BASE)
    before = history_log_probs(selector, model, batch)
    train(model, selector, batch)
    assert torch.equal(history_log_probs(selector, model, batch), before)


def test_describe_tells_one_adapter_from_another(load_plain, lora, adapter, tmp_path):
    lora(load_plain(), seed=6).save_pretrained(tmp_path / "other")
    same = AdapterHistory(from_adapter(adapter)).describe()
    assert AdapterHistory(from_adapter(adapter)).describe() == same
    assert AdapterHistory(from_adapter(tmp_path / "other")).describe() != same
    assert BaseHistory(BASE).describe() == {}
