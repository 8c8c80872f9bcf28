"""Tiny models and batches that the core's tests share."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from sstoken_plugins.model.quantised import keep_4bit_differentiable
from sstoken_plugins.registry import plugin_manager

from .tiny import VOCABULARY, tiny


@pytest.fixture
def tiny_llama():
    """A llama of two layers with random weights, and no dropout."""
    return tiny("llama")


@pytest.fixture
def lora():
    """Puts LoRA on a model, with weights as if it had learned something."""

    def wrap(model, *, seed: int = 1, learned: bool = True, **options):
        torch.manual_seed(seed)
        options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **options}
        model = get_peft_model(model, LoraConfig(**options))
        for name, parameter in model.named_parameters():
            if learned and parameter.requires_grad and "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        return model

    return wrap


@pytest.fixture
def model(lora):
    """A llama whose adapter has learned something; `history` is 'base', which says so in a warning."""
    return lora(tiny("llama")).train()


@pytest.fixture
def register():
    """Registers plugins, and takes them off again after the test."""
    registered = []

    def add(plugin):
        plugin_manager().register(plugin)
        registered.append(plugin)

    yield add
    for plugin in registered:
        plugin_manager().unregister(plugin)


@pytest.fixture
def batch():
    """Two rows of 4 prompt and 7 response tokens; the second has padding and another turn of the user."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, VOCABULARY, (2, 11), generator=generator)
    mask, labels = torch.ones_like(ids), ids.clone()
    labels[:, :4] = -100
    mask[1, -2:], labels[1, -2:], labels[1, 6] = 0, -100, -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory):
    """A base model on disk, large enough for 4-bit blocks."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny("llama", hidden_size=64, intermediate_size=64, head_dim=16).save_pretrained(folder)
    return folder


@pytest.fixture(params=["float32", "bfloat16", "nf4", "nf4-bfloat16"])
def load(request, base_folder):
    """Loads the base model in one precision."""

    def build():
        compute = torch.bfloat16 if "bfloat16" in request.param else torch.float32
        quantised = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=compute,
            bnb_4bit_use_double_quant=True,
        )
        options = {"quantization_config": quantised} if "nf4" in request.param else {}
        model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=compute, **options)
        keep_4bit_differentiable(model)  # or models to compare with would round differently in evaluation
        return model

    return build


@pytest.fixture
def load_plain(base_folder):
    return lambda: AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)


@pytest.fixture
def adapter(load_plain, lora, tmp_path):
    """The folder of an adapter that has learned something."""
    lora(load_plain(), seed=5, r=4).save_pretrained(tmp_path / "earlier")
    return tmp_path / "earlier"
