"""YAMLs that train without the plugin train with the one line that adds it, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from ..local import sentence
from .conftest import SPY, data, losses, run, train, write

TINY = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
TUNING: dict[str, dict[str, Any]] = {
    "full": {"adapter": None, "lora_r": None, "lora_alpha": None, "lora_target_linear": None},
    "lora": {},
    "qlora": {"adapter": "qlora", "load_in_4bit": True},
    "dora": {"peft_use_dora": True},
    "lora, dropout": {"lora_dropout": 0.1},
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {},
    "packed": {"sample_packing": True, "micro_batch_size": 1},
    "grouped by length": {"group_by_length": True},
    "accumulated": {"micro_batch_size": 2, "gradient_accumulation_steps": 2},
    "checkpointed": {"gradient_checkpointing": True},
}
DATA = ["chat", "completion", "alpaca", "tokenised", "train_on_inputs", "several"]


def datasets(kind: str, folder: Path) -> dict[str, Any]:
    """The part of a YAML that names 24 samples of a kind."""
    rng = random.Random(5)

    def file(name: str, make: Any, type_: str | None) -> list[dict[str, Any]]:
        return data(write(folder / f"{name}.jsonl", [make() for _ in range(24)]), type=type_)

    def chat() -> dict[str, Any]:
        roles = ("user", "assistant") * 2
        return {"messages": [{"role": role, "content": sentence(rng, 3, 8)} for role in roles]}

    def task() -> dict[str, Any]:
        return {"instruction": sentence(rng, 3, 8), "input": "", "output": sentence(rng, 3, 8)}

    def tokens() -> dict[str, Any]:
        ids = [rng.randint(6, 60) for _ in range(12)]
        return {"input_ids": ids, "labels": [-100] * 4 + ids[4:], "attention_mask": [1] * 12}

    def text() -> dict[str, str]:
        return {"text": sentence(rng, 5, 15)}

    kinds = {
        "chat": lambda: {"datasets": file("chat", chat, "chat_template")},
        "completion": lambda: {"datasets": file("text", text, "completion")},
        "alpaca": lambda: {"datasets": file("tasks", task, "alpaca")},
        "tokenised": lambda: {"datasets": file("tokens", tokens, None)},
        "train_on_inputs": lambda: {"datasets": file("tasks", task, "alpaca"), "train_on_inputs": True},
        "several": lambda: {
            "datasets": [
                *file("chat", chat, "chat_template"), *file("text", text, "completion"), *file("tasks", task, "alpaca")
            ]
        },
    }  # fmt: skip
    return kinds[kind]()


SHAPES = [(tuning, kind, layout) for tuning in TUNING for kind in DATA for layout in LAYOUTS]
# A Latin square's worth of them by default: every way to tune, every kind of data, every layout, and full fine-tuning
# on each kind.
DEFAULT = {
    ("full", "chat", "packed"), ("full", "completion", "padded"), ("full", "several", "accumulated"),
    ("lora", "train_on_inputs", "grouped by length"), ("qlora", "alpaca", "packed"), ("dora", "tokenised", "padded"),
    ("lora, dropout", "several", "checkpointed"), ("lora", "completion", "packed"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("tuning", "kind", "layout"),
    [
        pytest.param(*shape, id=", ".join(shape), marks=[] if shape in DEFAULT else pytest.mark.slow)
        for shape in SHAPES
    ],
)
def test_it_trains(settings, tmp_path, tuning, kind, layout):
    settings |= {**datasets(kind, tmp_path), **TUNING[tuning], **LAYOUTS[layout]}
    trainer = train(settings, dataset_prepared_path=str(tmp_path / "prepared"))
    require_selection(trainer)
    assert ("start model, recorded" in trainer.token_selector.summary) == (tuning == "full")


def require_selection(trainer: Any) -> None:
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 2
    assert all(0 < entry["sstoken/keep_rate"] < 1 for entry in logged)
    assert all(0 < loss < 20 for loss in losses(trainer))


VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
SEES = ["<image>", "<begin>", "<end>"]


def gemma3(tokenizer: Any) -> tuple[Any, Any]:
    text = {**TINY, "vocab_size": len(tokenizer), "sliding_window": 16}
    config = Gemma3Config(
        text_config=text,
        vision_config={**VISION, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return Gemma3ForConditionalGeneration(config), Gemma3Processor(Gemma3ImageProcessorPil(), tokenizer)


def llava(tokenizer: Any) -> tuple[Any, Any]:
    config = LlavaConfig(
        text_config={**TINY, "model_type": "llama", "vocab_size": len(tokenizer)},
        vision_config={
            **VISION, "model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, "projection_dim": 32
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    size = {"height": 28, "width": 28}
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=size)
    processor = LlavaProcessor(images, tokenizer, patch_size=14, vision_feature_select_strategy="default")
    return LlavaForConditionalGeneration(config), processor


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("make", [gemma3, llava])
def test_text_on_models_that_could_see(settings, model_dir, tmp_path, make, packing):
    """As without the plugin, to the last bit that another order of sums leaves."""
    torch.manual_seed(0)
    folder = tmp_path / "model"
    names = dict(zip(("image_token", "boi_token", "eoi_token"), SEES, strict=True))
    tokenizer = AutoTokenizer.from_pretrained(model_dir, extra_special_tokens=names)
    tokenizer.add_special_tokens({"additional_special_tokens": SEES})
    for part in make(tokenizer):
        part.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings |= {"base_model": str(folder), "sample_packing": packing, "micro_batch_size": 1 if packing else 4}
    # Axolotl looks for a projection of each name in the whole model, and PEFT would adapt the picture's too.
    settings |= {"lora_target_linear": None, "lora_target_modules": r"model\.language_model\.layers\.\d+.*_proj"}
    require_selection(train(settings))
    whole = train(settings, sstoken={"strategy": "full"}, output_dir=str(tmp_path / "whole"))
    plain = run("train", {**settings, "plugins": [SPY], "output_dir": str(tmp_path / "plain")})
    assert losses(whole) == pytest.approx(losses(plain), abs=1e-5)
