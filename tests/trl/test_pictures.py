"""Answers about pictures, through TRL's collator: pictures are prompt, and tell samples apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Picture
from transformers import AutoTokenizer, CLIPImageProcessorPil, LlavaProcessor

from . import oracle
from .test_histories import log, selections
from .test_one_line import llava
from .test_training import losses

TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image> {% else %}{{ part.text }} {% endif %}{% endfor %}"
    "{% if message.role == 'assistant' %}</s>{% endif %}{% endfor %}"
)


@pytest.fixture(scope="module")
def processor(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    size = {"height": 28, "width": 28}
    return LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=size), tokenizer, patch_size=14,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, image_token="<image>",
        chat_template=TEMPLATE,
    )  # fmt: skip


@pytest.fixture
def model(processor):
    torch.manual_seed(0)
    model = llava(len(processor.tokenizer))
    for parameter in model.parameters():  # large enough for what is seen to matter
        parameter.data *= 5 if parameter.dim() > 1 else 1
    return model


@pytest.fixture(scope="module")
def pictures() -> Dataset:
    """Twelve pictures with the same words beside them: only the pixels tell the samples apart."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "images": [Picture.fromarray(rng.integers(0, 255, (28, 28, 3), dtype=np.uint8))],
            "prompt": [{"role": "user", "content": "w1 w2 w3"}],
            "completion": [{"role": "assistant", "content": "w4 w5 w6 w7 w8 w9"}],
        }
        for _ in range(12)
    ]
    turns = List({"role": Value("string"), "content": Value("string")})
    return Dataset.from_list(rows, features=Features({"images": List(Image()), "prompt": turns, "completion": turns}))


def build(make_trainer, model, processor, pictures, **options):
    return make_trainer(
        model=model, processing_class=processor, train_dataset=pictures, peft_config=None, max_length=None,
        remove_unused_columns=False, **options,
    )  # fmt: skip


def test_each_picture_has_a_history_of_its_own(make_trainer, model, processor, pictures, capsys):
    trainer = build(make_trainer, model, processor, pictures, max_steps=6, num_train_epochs=2)
    with selections() as seen:
        trainer.train()
    assert "12 new samples, 12 in all" in capsys.readouterr().out
    assert log(trainer, "history_missing") == [0] * 6
    assert log(trainer, "rel_kept")[0] == 0 < log(trainer, "rel_kept")[-1]
    assert all(0 < each < 1 for each in log(trainer, "keep_rate"))
    [response] = {int(s.documents.response[0].sum()) for s in seen}
    first = seen[0].measured
    history = first["history"][first.documents.response].view(-1, response)
    assert (history[0] - history[1]).abs().max() > 1e-4


def test_the_first_step_equals_the_reference(make_trainer, model, processor, pictures):
    """One sample at a time, with its picture and eager attention."""
    import copy

    start = copy.deepcopy(model)
    start.set_attn_implementation("eager")
    trainer = build(make_trainer, model, processor, pictures, max_steps=1)
    with selections() as seen:
        trainer.train()
    [s] = seen
    inputs = s.measured.batch.inputs
    kept = []
    for row in range(len(inputs["labels"])):
        some = slice(row, row + 1)
        with torch.no_grad():
            out = start(
                input_ids=inputs["input_ids"][some], pixel_values=inputs["pixel_values"][some], output_attentions=True
            )
        log_softmax = out.logits[0].float().log_softmax(-1)
        ids, labels = inputs["input_ids"][row].tolist(), inputs["labels"][row].tolist()
        response = [i for i in range(1, len(ids)) if labels[i] != -100]
        prompt = [i for i in range(len(ids)) if i not in response]
        scores = [0.5 * out.attentions[-1][0][:, i, prompt].sum(-1).mean().item() for i in response]
        nll = [-log_softmax[i - 1, ids[i]].item() for i in response]
        kept += [nll[i] for i in oracle.keep(scores, 0.6)]
    assert losses(trainer)[0] == pytest.approx(sum(kept) / len(kept), abs=1e-5)


def test_with_last_visit(make_trainer, model, processor, pictures):
    trainer = build(make_trainer, model, processor, pictures, max_steps=6, sstoken_history="last_visit")
    trainer.train()
    assert log(trainer, "history_missing") == [1] * 3 + [0] * 3
