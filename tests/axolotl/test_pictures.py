"""Answers about pictures with Axolotl's `processor_type`: pictures are prompt, and tell samples apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer

from ..trl import oracle
from .conftest import SPY, losses, run, train, write
from .test_one_line import SEES, llava

TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {% for part in message.content %}"
    "{% if part.type == 'image' %}<image> {% else %}{{ part.text }} {% endif %}{% endfor %}</s>{% endfor %}"
)
WORDS = "w4 w5 w6 w7 w8 w9"


@pytest.fixture(scope="module")
def seeing(model_dir, tmp_path_factory):
    """A tiny Llava whose numbers are large enough for what it sees to matter."""
    folder = tmp_path_factory.mktemp("llava")
    torch.manual_seed(0)
    names = dict(zip(("image_token", "boi_token", "eoi_token"), SEES, strict=True))
    tokenizer = AutoTokenizer.from_pretrained(model_dir, extra_special_tokens=names)
    tokenizer.add_special_tokens({"additional_special_tokens": SEES})
    tokenizer.chat_template = TEMPLATE
    model, processor = llava(tokenizer)
    for parameter in model.parameters():
        parameter.data *= 5 if parameter.dim() > 1 else 1
    processor.chat_template, processor.num_additional_image_tokens = TEMPLATE, 1
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def vision(settings, seeing, tmp_path) -> dict[str, Any]:
    """A YAML that trains on twelve pictures with the same words beside them, without ssToken."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (28, 28, 3), dtype=np.uint8)).save(path)
        parts = [{"type": "image", "path": str(path), "text": None}, {"type": "text", "path": None, "text": "w1 w2"}]
        answer = [{"type": "text", "path": None, "text": WORDS}]
        rows.append({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]})
    data = write(tmp_path / "pictures.jsonl", rows)
    return {
        **settings,
        "base_model": str(seeing),
        "processor_type": "AutoProcessor",
        "skip_prepare_dataset": True,
        "remove_unused_columns": False,
        "sample_packing": False,
        "datasets": [{"path": str(data), "ds_type": "json", "type": "chat_template", "split": "train"}],
        "chat_template": "tokenizer_default",
        "lora_target_linear": None,
        "lora_target_modules": r"model\.language_model\.layers\.\d+.*_proj",
        "max_steps": 6,
    }


def log(trainer: Any, name: str) -> list[float]:
    return [entry[f"sstoken/{name}"] for entry in trainer.state.log_history if "loss" in entry]


FULL = {"adapter": None, "lora_target_modules": None, "lora_r": None, "lora_alpha": None}


def test_each_picture_has_a_history_of_its_own(vision):
    trainer = train(vision, **FULL)
    assert log(trainer, "history_missing") == [0] * 6
    assert len(trainer.token_selector.history.recording.store) == 12
    assert log(trainer, "rel_kept")[0] == 0 < log(trainer, "rel_kept")[-1]
    assert all(0 < each < 1 for each in log(trainer, "keep_rate"))
    assert log(trainer, "without_prompt") == [0] * 6


def test_the_first_step_equals_the_reference(vision, seeing):
    trainer = train(vision, max_steps=1, **FULL)
    start = AutoModelForImageTextToText.from_pretrained(seeing, attn_implementation="eager", dtype=torch.float32)
    batch = next(iter(trainer.get_train_dataloader()))
    kept = []
    for row in range(len(batch["labels"])):
        some = slice(row, row + 1)
        with torch.no_grad():
            inputs = {name: batch[name][some] for name in ("input_ids", "pixel_values")}
            out = start(**inputs, output_attentions=True)
        log_softmax = out.logits[0].float().log_softmax(-1)
        ids, labels = batch["input_ids"][row].tolist(), batch["labels"][row].tolist()
        response = [i for i in range(1, len(ids)) if labels[i] != -100]
        assert len(response) == len(f"w1 w2 </s> <assistant> {WORDS} </s>".split())  # Axolotl masks pictures alone
        prompt = [i for i in range(len(ids)) if i not in response]
        scores = [0.5 * out.attentions[-1][0][:, i, prompt].sum(-1).mean().item() for i in response]
        nll = [-log_softmax[i - 1, ids[i]].item() for i in response]
        kept += [nll[i] for i in oracle.keep(scores, 0.6)]
    assert losses(trainer)[0] == pytest.approx(sum(kept) / len(kept), abs=1e-5)


def test_all_tokens_are_plain_axolotl(vision, tmp_path):
    whole = train(vision, sstoken={"strategy": "full"}, max_steps=2)
    plain = run("train", {**vision, "plugins": [SPY], "output_dir": str(tmp_path / "plain"), "max_steps": 2})
    assert losses(whole) == pytest.approx(losses(plain), abs=1e-5)


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_sound_is_refused_by_name(vision, tmp_path, kind):
    parts = [{"type": kind, "path": "x", "text": None}, {"type": "text", "path": None, "text": "w1"}]
    answer = [{"type": "text", "path": None, "text": WORDS}]
    rows = [{"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]}]
    vision["datasets"][0]["path"] = str(write(tmp_path / "sound.jsonl", rows * 4))
    with pytest.raises(ValueError, match=f"Row 0 of the data has {kind}: token selection reads text and pictures"):
        train(vision)
