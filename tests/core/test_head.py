"""Losses without logits: the same numbers and gradients as from full logits, and never a tensor of their size."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaForCausalLM

import sstoken_plugins.model.head
from sstoken_plugins import Documents, token_forward, token_log_probs, weighted_nll
from sstoken_plugins.model.forward import check_against_logits

from . import oracle
from .tiny import VOCABULARY, tiny

ARCHITECTURES = ["llama", "gemma2", "gemma3_text", "cohere", "cohere2", "granite", "gpt2", "phi", "olmo2", "qwen3"]


def build(architecture: str, tuning: str, **options):
    model = tiny(architecture, "eager" if architecture == "gemma2" else "sdpa", **options)
    if tuning == "full":
        return model
    if tuning == "frozen head":
        return model.requires_grad_(True) and (model.get_output_embeddings().requires_grad_(False), model)[1]
    targets = [name.split(".")[-1] for name, m in model.named_modules() if "lin" in type(m).__name__.lower()]
    targets += ["c_attn"] if architecture == "gpt2" else []
    lora = {
        "lora": {"target_modules": sorted({*targets} - {"lm_head"})},
        "lora on head": {"target_modules": sorted({*targets, "lm_head"})},
        "head saved": {"target_modules": sorted({*targets} - {"lm_head"}), "modules_to_save": ["lm_head"]},
    }[tuning]
    torch.manual_seed(1)
    model = get_peft_model(model, LoraConfig(r=4, **lora))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def some_weights(documents: Documents):
    """Kept, dropped, doubled and negative tokens."""
    places = torch.arange(documents.response.numel()).view_as(documents.response)
    return torch.tensor([1.0, 0.0, 2.0, -0.5])[places % 4] * documents.response


def loss_and_gradients(model, loss):
    model.zero_grad(set_to_none=True)
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert any(g is not None and g.any() for g in gradients.values())
    return loss.detach(), gradients


def naive(model, batch, weights, denominator):
    ids = batch["input_ids"]
    logits = model(**{**batch, "labels": None}, use_cache=False).logits
    log_probs = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return loss_and_gradients(model, -(weights[:, 1:] * log_probs).sum() / denominator), logits.detach()


def compare(model, batch, tolerance: float = 1e-5):
    documents = Documents.from_batch(batch)
    weights = some_weights(documents)
    (expected_loss, expected), logits = naive(model, batch, weights, 5)
    forward = token_forward(model, batch, documents)

    log_probs, entropy, top1 = oracle.read_logits(logits, batch["input_ids"])
    response = documents.response
    torch.testing.assert_close(forward.log_probs, log_probs * response, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(forward.values["entropy"], entropy * response, atol=tolerance, rtol=tolerance)
    if tolerance <= 1e-5:
        assert torch.equal(forward.values["is_top1"], top1 & response)
    assert forward.log_probs.dtype == forward.values["entropy"].dtype == torch.float32
    assert set(forward.values) == {"entropy", "is_top1"}

    loss, gradients = loss_and_gradients(model, weighted_nll(forward.log_probs, weights, 5))
    torch.testing.assert_close(loss, expected_loss, atol=tolerance, rtol=tolerance)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        if expected[name] is None:
            assert gradient is None or not gradient.any(), name
        else:
            scale = expected[name].abs().max().clamp(min=1)
            torch.testing.assert_close(
                gradient / scale, expected[name] / scale, atol=tolerance, rtol=tolerance, msg=name
            )


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradients_equal_those_from_full_logits(architecture, tuning, batch):
    compare(build(architecture, tuning), batch)


@pytest.mark.parametrize("tuning", ["frozen head", "lora on head", "head saved"])
@pytest.mark.parametrize("architecture", ["llama", "granite", "phi"])
def test_every_way_to_train_the_head(architecture, tuning, batch):
    compare(build(architecture, tuning), batch)


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3_text", "cohere"])
def test_tied_embeddings(architecture, tuning, batch):
    model = build(architecture, tuning, tie_word_embeddings=True)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    compare(model, batch)


@pytest.mark.parametrize("elements", [1, VOCABULARY, 3 * VOCABULARY + 5, 1 << 24])
@pytest.mark.parametrize("tuning", ["full", "lora on head"])
def test_the_chunk_size_makes_no_difference(tuning, elements, batch, monkeypatch):
    monkeypatch.setattr(sstoken_plugins.model.head, "CPU_CHUNK_ELEMENTS", elements)
    compare(build("gemma3_text", tuning), batch)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_gradient_checkpointing(tuning, reentrant, batch):
    model = build("llama", tuning)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    compare(model.train(), batch)


@pytest.mark.parametrize("tuning", ["full", "lora", "lora on head"])
def test_bfloat16_autocast(tuning, batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compare(build("llama", tuning), batch, tolerance=0.05)


def test_a_bfloat16_model(batch):
    compare(build("llama", "full").bfloat16(), batch, tolerance=0.05)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_batch_without_any_response_is_a_zero_loss_that_can_be_back_propagated(tuning, batch):
    model = build("llama", tuning)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    documents = Documents.from_batch(batch)
    loss = weighted_nll(token_forward(model, batch, documents).log_probs, torch.zeros(documents.ids.shape), 0)
    loss.backward()
    assert loss.item() == 0
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None for g in gradients), "distributed training waits for a gradient of every parameter"
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize("layout", ["packed", "left"])
def test_other_layouts(layout, batch):
    if layout == "left":
        batch = {name: value.flip(1) for name, value in batch.items()}
    else:
        del batch["attention_mask"]
        batch["position_ids"] = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3], [*range(11)]])
    compare(build("llama", "lora"), batch)


class LargestOutput(TorchDispatchMode):
    """Notes the sizes of all tensors that are computed, and how many rows of logits."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.numel, self.rows_of_logits = vocabulary, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
                if func is torch.ops.aten.mm.default and tensor.shape[-1] == self.vocabulary:
                    self.rows_of_logits += tensor.shape[0]
        return result


@pytest.mark.parametrize("tuning", ["full", "lora", "lora on head"])
def test_no_tensor_of_the_size_of_the_logits_is_ever_made(tuning, monkeypatch):
    rows, width, vocabulary = 8, 24, 509
    monkeypatch.setattr(sstoken_plugins.model.head, "CPU_CHUNK_ELEMENTS", 7 * vocabulary)
    model = build("llama", tuning, vocab_size=vocabulary)
    ids = torch.randint(3, vocabulary, (rows, width))
    batch = {"input_ids": ids, "labels": ids.clone()}
    documents = Documents.from_batch(batch)
    logits = rows * width * vocabulary

    with LargestOutput(vocabulary) as plain:
        model(input_ids=ids, use_cache=False).logits.float().log_softmax(-1).sum().backward()
    assert plain.numel >= logits

    weights = (torch.arange(width) % 3 == 0) * documents.response
    with LargestOutput(vocabulary) as forward_pass:
        log_probs = token_forward(model, batch, documents).log_probs
    with LargestOutput(vocabulary) as backward_pass:
        weighted_nll(log_probs, weights, 1).backward()
    assert forward_pass.numel < logits / 3
    assert backward_pass.numel < logits / 3
    if tuning != "lora on head":  # there each row is multiplied with two more matrices
        assert forward_pass.rows_of_logits == documents.response.sum()
        assert backward_pass.rows_of_logits == weights.sum(), "dropped tokens should cost nothing in backward"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("padding", ["right", "left"])
def test_known_architectures_agree_with_their_own_logits(architecture, padding, batch):
    if padding == "left":
        batch = {name: value.flip(1) for name, value in batch.items()}
    check_against_logits(build(architecture, "lora"), batch)
    check_against_logits(build(architecture, "full").bfloat16(), batch)


class TripledLogits(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 3
        return output


def test_a_model_that_changes_its_logits_in_an_unknown_way_is_refused(batch):
    model = TripledLogits(tiny("llama").config)
    model.load_state_dict(tiny("llama").state_dict())
    with pytest.raises(
        ValueError, match=r"log-probabilities of TripledLogits differ by .* from those of its own logits"
    ):
        check_against_logits(model, batch)


class TwoHeads(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        super().forward(*args, **kwargs)
        return super().forward(*args, **kwargs)


def test_a_head_that_does_not_run_exactly_once_is_refused(batch):
    with pytest.raises(ValueError, match="TwoHeads ran its output head 2 times"):
        token_forward(TwoHeads(tiny("llama").config), batch, Documents.from_batch(batch))


def test_a_model_without_an_output_head_is_refused(tiny_llama, batch):
    with pytest.raises(ValueError, match="LlamaModel names no output embeddings"):
        token_forward(tiny_llama.model, batch, Documents.from_batch(batch))


def test_prompt_learning_is_refused(tiny_llama, batch):
    model = get_peft_model(tiny_llama, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(ValueError, match="prompt-learning adapters"):
        token_forward(model, batch, Documents.from_batch(batch))


def test_the_head_is_as_before_even_after_an_exception_and_under_another_patch(tiny_llama, batch):
    head, labels = tiny_llama.lm_head, batch["labels"]
    with token_log_probs(tiny_llama, labels, Documents.from_labels(labels)):
        pass
    assert "forward" not in vars(head)
    patched = vars(head).setdefault("forward", head.forward)  # as accelerate's device hooks do
    with (
        pytest.raises(RuntimeError, match="in between"),
        token_log_probs(tiny_llama, labels, Documents.from_labels(labels)),
    ):
        raise RuntimeError("in between")
    assert head.forward is patched


def test_labels_and_loss_arguments_never_reach_the_model(tiny_llama, batch):
    batch["num_items_in_batch"] = torch.tensor(3)
    forward = token_forward(tiny_llama, batch, Documents.from_batch(batch))
    assert forward.outputs.loss is None
