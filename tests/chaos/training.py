"""A training that takes a second: real Trainer, PEFT and selection on a model of one layer."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback, TrainingArguments

from sstoken_plugins import SSTokenConfig, TokenSelector
from sstoken_transformers import SSTokenTrainerMixin

from ..core.tiny import VOCABULARY, tiny

HISTORIES = ("base", "adapter", "snapshot", "ema", "recorded", "last_visit")
STEPS = 6


class SelectingTrainer(SSTokenTrainerMixin, Trainer):
    """A plain trainer with selection."""


def rows(n: int = 16, seed: int = 0) -> Dataset:
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        ids = [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(6, 14))]
        n_prompt = rng.randint(2, 4)
        made.append({"input_ids": ids, "labels": [-100] * n_prompt + ids[n_prompt:]})
    return Dataset.from_list(made)


def pad(features: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(each["input_ids"]) for each in features)

    def padded(name: str, fill: int) -> torch.Tensor:
        return torch.tensor([each[name] + [fill] * (longest - len(each[name])) for each in features])

    mask = [[1] * len(each["input_ids"]) + [0] * (longest - len(each["input_ids"])) for each in features]
    return {
        "input_ids": padded("input_ids", 0),
        "labels": padded("labels", -100),
        "attention_mask": torch.tensor(mask),
    }


def adapted(learned: bool = False, seed: int = 1, **options: Any) -> Any:
    """A model of one layer with LoRA."""
    model = tiny("llama", num_hidden_layers=1)
    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(**{"r": 2, "target_modules": ["q_proj", "v_proj"], **options}))
    for name, parameter in model.named_parameters():
        if learned and "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.create_or_update_model_card = lambda folder: None  # which takes longer than the training
    return model


def options_of(history: str, folder: Path) -> dict[str, Any]:
    own: dict[str, Any] = {
        "adapter": {"history_adapter": str(folder.parent / "earlier")},
        "snapshot": {"refresh_steps": 0.4},
        "ema": {"ema_alpha": 0.7},
        "recorded": {"history_store": str(folder / "store"), "history_record": True},
    }
    return {"history": history, **own.get(history, {})}


def make(
    folder: Path, history: str, callbacks: tuple[TrainerCallback, ...] = (), selects: bool = True, model: Any = None,
    reports: int = 0, **arguments: Any,
) -> Any:  # fmt: skip
    """A trainer that saves after every step; the folder beside `folder` has the earlier adapter.

    Args:
        reports: a report is written every so many steps.
    """
    defaults: dict[str, Any] = {
        "output_dir": str(folder), "max_steps": STEPS, "per_device_train_batch_size": 4, "learning_rate": 0.05,
        "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2, "logging_steps": 1, "report_to": [],
        "disable_tqdm": True, "use_cpu": True, "remove_unused_columns": False,
    }  # fmt: skip
    trainer = SelectingTrainer(
        model=adapted() if model is None else model,
        args=TrainingArguments(**{**defaults, **arguments}),
        train_dataset=rows(),
        data_collator=pad,
        processing_class=tokenizer() if reports else None,
        callbacks=list(callbacks),
    )
    if selects:
        options = {**options_of(history, folder), **({"report_steps": reports} if reports else {})}
        trainer.enable_token_selection(TokenSelector(SSTokenConfig(**options)))
    return trainer


def tokenizer() -> PreTrainedTokenizerFast:
    """A word for each token, with a character that a terminal takes for the beginning of a command."""
    words = models.WordLevel({f"w{number}\x1b": number for number in range(VOCABULARY)}, "w0\x1b")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token="w0\x1b", eos_token="w2\x1b")


def earlier_adapter(folder: Path) -> Path:
    """Saved where `make` looks for it, if it is not there yet."""
    if not (folder / "earlier").is_dir():
        adapted(learned=True, seed=5).save_pretrained(folder / "earlier")
    return folder / "earlier"


def learned(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
