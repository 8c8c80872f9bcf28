"""The probe gives what the softmax weights give, on any architecture and layout, and leaves no trace."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sstoken_plugins import Documents, PromptAttention

from .layouts import LAYOUTS, laid_out
from .tiny import VOCABULARY, tiny

SDPA_AND_EAGER = [
    "llama", "qwen2", "qwen3", "mistral", "mixtral", "gemma", "gemma3_text", "phi", "phi3", "gpt2",
    "gpt_neox", "gpt_bigcode", "olmo", "olmo2", "olmo3", "olmoe", "granite", "granitemoe", "cohere",
    "cohere2", "starcoder2", "stablelm", "opt", "qwen2_moe", "qwen3_moe", "smollm3", "glm", "glm4", "exaone4",
    "nemotron", "ernie4_5", "llama4_text", "seed_oss", "hunyuan_v1_dense", "arcee", "bitnet", "phimoe",
    "jetmoe", "persimmon", "helium", "biogpt", "deepseek_v3",
]  # fmt: skip
EAGER_ONLY = ["gemma2", "gpt_oss"]
HYBRID = {"qwen3_next": 1, "minimax": 0, "jamba": 0}  # and their last layer of softmax attention
WITHOUT_INTERFACE = ["bloom", "mpt", "xglm"]
(SDPA_AND_EAGER if Version(transformers.__version__) >= Version("5.24") else WITHOUT_INTERFACE).extend(
    ("gptj", "codegen")
)
EVERY_BACKEND = [(a, b) for a in SDPA_AND_EAGER for b in ("sdpa", "eager")] + [(a, "eager") for a in EAGER_ONLY]

ROWS, WIDTH = 2, 12

shared = functools.lru_cache(maxsize=2)(tiny)  # for tests that leave the model as it is


def batch(layout: str):
    """Model inputs, which tokens are prompt, and which are real."""
    generator = torch.Generator().manual_seed(1)
    inputs = {"input_ids": torch.randint(3, VOCABULARY, (ROWS, WIDTH), generator=generator)}
    prompt, real = torch.zeros(ROWS, WIDTH, dtype=torch.bool), torch.ones(ROWS, WIDTH, dtype=torch.bool)
    prompt[0, :5], prompt[1, 2:4], prompt[1, 6] = True, True, True
    if layout == "right":
        real[1, 9:] = False
    if layout == "left":
        real[1, :3] = False
    if layout in ("right", "left"):
        inputs["attention_mask"], prompt = real.long(), prompt & real
    if layout == "packed":
        inputs["position_ids"] = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4], [0, 1, 2, *range(9)]])
    return inputs, prompt, real


def asked(prompt):
    """Documents with this prompt; one a row, since the probe asks for nothing else."""
    return Documents(ids=torch.arange(len(prompt))[:, None].expand_as(prompt), prompt=prompt, response=~prompt)


def read(model, inputs, prompt, layer: int = -1):
    with PromptAttention(model, layer).record(asked(prompt)) as recorded:
        logits = model(**inputs, use_cache=False).logits
    assert len(recorded) == 1
    return recorded[0], logits


@torch.no_grad()
def naive(model, inputs, prompt, layer: int = -1):
    """Mean over heads of the softmax weights on the prompt; `layer` counts those that have such weights."""
    weights = model(**inputs, use_cache=False, output_attentions=True).attentions
    weights = [w for w in weights if w is not None and w.shape[-2:] == (WIDTH, WIDTH)][layer]
    return (weights * prompt[:, None, None, :]).sum(-1).mean(1)


@pytest.mark.parametrize("layout", ["plain", "right", "left", "packed"])
@pytest.mark.parametrize(("architecture", "backend"), EVERY_BACKEND)
def test_equals_the_eager_attention_weights(architecture, backend, layout):
    inputs, prompt, real = batch(layout)
    expected = naive(shared(architecture, "eager"), inputs, prompt)
    with torch.no_grad():
        mass, _ = read(shared(architecture, backend), inputs, prompt)
    assert mass.dtype == torch.float32
    assert expected[real].std() > 0.05
    torch.testing.assert_close(mass[real], expected[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", HYBRID)
def test_a_hybrid_model_is_read_at_its_last_layer_of_softmax_attention(architecture):
    inputs, prompt, _ = batch("plain")
    model = tiny(architecture, "sdpa")
    assert PromptAttention(model).module.layer_idx == HYBRID[architecture]
    mass, _ = read(model, inputs, prompt)
    last = 0 if architecture == "minimax" else -1  # its linear attention returns something of that shape too
    torch.testing.assert_close(mass, naive(tiny(architecture, "eager"), inputs, prompt, last), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"that layer of .* has no softmax attention"):
        PromptAttention(model, 1 - HYBRID[architecture])


@pytest.mark.parametrize(
    "architecture", ["mistral", "gemma2", "gemma3_text", "gpt_oss", "cohere2", "olmo3", "starcoder2"]
)
@pytest.mark.parametrize("layout", ["plain", "left", "packed"])
def test_a_sliding_window_shorter_than_the_sequence(architecture, layout):
    options = {"sliding_window": 3, "use_sliding_window": True}
    if architecture not in ("mistral", "starcoder2"):
        options["layer_types"] = ["sliding_attention", "sliding_attention"]
    inputs, prompt, real = batch(layout)
    expected = naive(tiny(architecture, "eager", **options), inputs, prompt)
    mass, _ = read(tiny(architecture, "eager" if architecture in EAGER_ONLY else "sdpa", **options), inputs, prompt)
    torch.testing.assert_close(mass[real], expected[real], atol=1e-5, rtol=0)
    assert not mass[0, 5 + 3 :].any(), "the window should have left the prompt of the first row"


@pytest.mark.parametrize(("layer", "index"), [(0, 0), (1, 1), (2, 2), (-1, 2), (-2, 1), (-3, 0)])
def test_any_layer_can_be_read(layer, index):
    inputs, prompt, _ = batch("plain")
    mass, _ = read(tiny("llama", num_hidden_layers=3), inputs, prompt, layer)
    expected = naive(tiny("llama", "eager", num_hidden_layers=3), inputs, prompt, index)
    torch.testing.assert_close(mass, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", [3, 17, -4])
def test_a_layer_that_does_not_exist_is_refused_with_those_that_do(layer):
    with pytest.raises(
        ValueError, match=rf"`attention_layer` is {layer}, but .* has 3 layers: choose one of \[0, 1, 2\]"
    ):
        PromptAttention(tiny("llama", num_hidden_layers=3), layer)


@pytest.mark.parametrize("architecture", WITHOUT_INTERFACE)
def test_architectures_that_cannot_be_served_are_refused_by_name(architecture):
    model = tiny(architecture, "eager")
    with pytest.raises(ValueError, match=f"{type(model).__name__} does not run its attention through"):
        PromptAttention(model)


@pytest.mark.parametrize(("architecture", "backend"), [("llama", "sdpa"), ("llama", "eager"), ("gemma2", "eager")])
def test_the_model_computes_the_same_bits_with_and_without(architecture, backend):
    inputs, prompt, _ = batch("left")

    def logits_and_gradients(probed: bool):
        model = tiny(architecture, backend)
        logits = read(model, inputs, prompt)[1] if probed else model(**inputs, use_cache=False).logits
        logits.square().mean().backward()
        return [logits, *(p.grad for p in model.parameters())]

    for plain, probed in zip(logits_and_gradients(False), logits_and_gradients(True), strict=True):
        assert torch.equal(plain, probed)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_gradient_checkpointing_records_once_and_the_same(backend, reentrant):
    inputs, prompt, _ = batch("right")
    model = tiny("llama", backend)
    expected, _ = read(model, inputs, prompt)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    model.train()
    with PromptAttention(model).record(asked(prompt)) as recorded:
        logits = model(**inputs, use_cache=False).logits
        logits.sum().backward()  # even with the recording still open
    assert len(recorded) == 1
    assert torch.equal(recorded[0], expected)
    assert not recorded[0].requires_grad


def test_attention_dropout_of_the_training_pass_is_not_in_the_reading():
    inputs, prompt, _ = batch("plain")
    expected, _ = read(tiny("llama"), inputs, prompt)
    model = tiny("llama", attention_dropout=0.5, num_hidden_layers=2).train()
    layer_0, _ = read(model, inputs, prompt, 0)  # its own inputs have seen no dropout yet
    torch.testing.assert_close(layer_0, read(tiny("llama"), inputs, prompt, 0)[0])
    assert (expected <= 1 + 1e-6).all()


def test_bfloat16_is_read_in_float32():
    inputs, prompt, _ = batch("plain")
    expected, _ = read(tiny("llama"), inputs, prompt)
    mass, _ = read(tiny("llama").bfloat16(), inputs, prompt)
    assert mass.dtype == torch.float32
    torch.testing.assert_close(mass, expected, atol=0.05, rtol=0)


def test_packed_documents_read_as_if_each_were_alone():
    inputs, _, _ = batch("packed")
    ids, prompt = inputs["input_ids"][:1], torch.tensor([[1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0]]).bool()
    model = tiny("llama")
    packed, _ = read(model, {"input_ids": ids, "position_ids": inputs["position_ids"][:1]}, prompt)
    for columns in (slice(0, 7), slice(7, 12)):
        alone, _ = read(model, {"input_ids": ids[:, columns]}, prompt[:, columns])
        torch.testing.assert_close(packed[:, columns], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_the_registry_is_as_before_even_after_an_exception(backend):
    _, prompt, _ = batch("plain")
    probe = PromptAttention(tiny("llama", backend))
    before = dict(ALL_ATTENTION_FUNCTIONS)
    with probe.record(asked(prompt)):
        pass
    assert dict(ALL_ATTENTION_FUNCTIONS) == before
    with pytest.raises(RuntimeError, match="in between"), probe.record(asked(prompt)):
        raise RuntimeError("in between")
    assert dict(ALL_ATTENTION_FUNCTIONS) == before


def test_kernels_registered_or_overridden_by_others_are_used_and_kept():
    inputs, prompt, _ = batch("plain")
    calls = []

    def kernel(*args, **kwargs):
        calls.append(args[0].layer_idx)
        return original(*args, **kwargs)

    original = ALL_ATTENTION_FUNCTIONS["sdpa"]
    model = tiny("llama")
    try:
        read(model, inputs, prompt)
        AttentionInterface.register("sdpa", kernel)  # for all of transformers: a recording before must not hide it
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is kernel
        read(model, inputs, prompt)
        assert calls == [0, 1, 1]
    finally:
        AttentionInterface.register("sdpa", original)
    try:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = kernel  # for the shared instance alone
        read(model, inputs, prompt)
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is kernel
        assert calls == [0, 1, 1] * 2
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is original


def test_flex_attention():
    inputs, prompt, _ = batch("plain")
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # on a CPU it has no backward, and compiles slowly
        mass, _ = read(tiny("llama", "flex_attention", head_dim=16), inputs, prompt)
    expected = naive(tiny("llama", "eager", head_dim=16), inputs, prompt)
    torch.testing.assert_close(mass, expected, atol=1e-5, rtol=0)


def test_through_a_peft_model():
    from peft import LoraConfig, get_peft_model

    inputs, prompt, _ = batch("left")
    expected, _ = read(tiny("llama"), inputs, prompt)
    mass, _ = read(get_peft_model(tiny("llama"), LoraConfig(target_modules=["q_proj"])), inputs, prompt)
    assert torch.equal(mass, expected)


def test_a_patched_forward_that_imports_the_interface_itself(monkeypatch):
    """As kernel patches of other libraries do: neither name is among the globals of the forward that runs."""
    model = tiny("llama").train()
    attention = type(model.model.layers[0].self_attn)
    patched = ast.parse(textwrap.dedent(inspect.getsource(attention.forward)))
    patched.body[0].body[:0] = ast.parse(
        "from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS\n"
        "from transformers.models.llama.modeling_llama import eager_attention_forward\n"
    ).body
    imported = ("ALL_ATTENTION_FUNCTIONS", "eager_attention_forward")
    namespace = {
        name: value for name, value in inspect.unwrap(attention.forward).__globals__.items() if name not in imported
    }
    exec(compile(ast.fix_missing_locations(patched), "patched", "exec"), namespace)
    ids = torch.randint(3, VOCABULARY, (2, 12))
    prompt = torch.arange(12).expand(2, 12) < 5

    def mass():
        with PromptAttention(model).record(asked(prompt)) as recorded:
            model(ids)
        return recorded[0]

    expected = mass()
    monkeypatch.setattr(attention, "forward", namespace["forward"])
    torch.testing.assert_close(mass(), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loses_label", [False, True])
def test_a_document_without_prompt_attends_to_none(layout, loses_label):
    """Its first token is no response, since nothing predicts it, and no prompt either: with a label or without."""
    model = shared("llama")
    batch = laid_out(layout, [([5, 9, 11, 7], [True] * 4), ([8, 4, 6, 9], [False, False, True, True])])
    if loses_label:
        batch["labels"][Documents.from_batch(batch).positions == 0] = -100
    documents = Documents.from_batch(batch)
    with PromptAttention(model, -1).record(documents) as recorded, torch.no_grad():
        model(**{name: value for name, value in batch.items() if name != "labels"}, use_cache=False)
    without, asks = (documents.ids[batch["input_ids"] == first][0] for first in (5, 8))
    assert not recorded[0][documents.ids == without].any()
    assert (recorded[0][documents.ids == asks] > 0).all()
