"""What the recipes of this folder share: the model, the data, and a training."""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig
from rich.console import Console
from transformers import AutoTokenizer

from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer
from sstoken_trl.demo.model import model_folder

CALCULATOR = re.compile(r"<<.*?>>")  # GSM8K's annotations


def make_parser(description: str) -> argparse.ArgumentParser:
    """The options that all recipes have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, required=True, help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--model", help="name or folder (default: SmolLM2-135M-Instruct, from its PyPI package)")
    parser.add_argument("--output", type=Path, default=Path("outputs/prior-works"))
    parser.add_argument("--samples", type=int, default=400, help="training samples")
    parser.add_argument("--wrong", type=float, default=0.3, help="share of them with the answer to another question")
    parser.add_argument("--clean", type=int, default=200, help="samples with right answers for the reference")
    parser.add_argument("--held-out", type=int, default=50, help="samples of the test part for the loss at the end")
    parser.add_argument("--steps", type=int, default=50, help="optimizer steps of each training")
    parser.add_argument("--batch", type=int, default=4, help="samples of each step")
    parser.add_argument("--length", type=int, default=256, help="longest sample, in tokens")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def model_of(options: argparse.Namespace) -> str:
    return options.model or str(model_folder(Console(stderr=True)))


class Data:
    """GSM8K, cut into a clean part, a noisy part, and a held-out part that does not overlap with them."""

    def __init__(self, options: argparse.Namespace, model: str) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._length, self._random = options.length, random.Random(options.seed)
        rows = self._rows(options.gsm8k / "train.jsonl")
        self.clean = Dataset.from_list([next(rows) for _ in range(options.clean)])
        noisy = [next(rows) for _ in range(options.samples)]
        wrong = self._random.sample(range(len(noisy)), round(options.wrong * len(noisy)))
        answers = [noisy[i]["completion"] for i in wrong]
        for i, answer in zip(wrong, answers[1:] + answers[:1], strict=True):
            noisy[i] = {**noisy[i], "completion": answer}
        self.is_right = [i not in set(wrong) for i in range(len(noisy))]
        self.noisy = Dataset.from_list(noisy)
        rows = self._rows(options.gsm8k / "test.jsonl")
        self.held_out = Dataset.from_list([next(rows) for _ in range(options.held_out)])

    def _rows(self, path: Path) -> Iterator[dict[str, Any]]:
        """In random order, without those that are too long."""
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        self._random.shuffle(rows)
        for row in rows:
            prompt = [{"role": "user", "content": row["question"]}]
            completion = [{"role": "assistant", "content": CALCULATOR.sub("", row["answer"])}]
            text = self._tokenizer.apply_chat_template([*prompt, *completion], tokenize=False)
            if len(self._tokenizer(text)["input_ids"]) <= self._length:
                yield {"prompt": prompt, "completion": completion}


def trainer(options: argparse.Namespace, model: Any, data: Dataset, held_out: Dataset, name: str, **more: Any) -> Any:
    """An `SSTokenSFTTrainer` with LoRA, which writes into a folder of this name; `more` are options of TRL and, with
    the prefix `sstoken_`, of the selection."""
    is_name = isinstance(model, str)
    arguments = {
        "output_dir": str(options.output / name),
        "max_steps": options.steps,
        "per_device_train_batch_size": options.batch,
        "per_device_eval_batch_size": options.batch,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "constant",
        "max_length": options.length,
        "logging_steps": max(1, options.steps // 10),
        "save_strategy": "no",
        "report_to": "none",
        "seed": options.seed,
        "bf16": False,
        "use_cpu": not torch.accelerator.is_available(),
        "gradient_checkpointing": False,
        **({"model_init_kwargs": {"dtype": "float32"}} if is_name else {}),
        **more,
    }
    torch.manual_seed(options.seed)
    return SSTokenSFTTrainer(
        model=model,
        args=SSTokenSFTConfig(**arguments),
        train_dataset=data,
        eval_dataset=held_out,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear") if is_name else None,
    )


def trained_reference(options: argparse.Namespace, model: str, data: Data) -> str:
    """The folder of an adapter that was trained on the clean part."""
    made = trainer(options, model, data.clean, data.held_out, "reference", sstoken=False)
    made.train()
    made.save_model()
    return str(options.output / "reference")


def merged(adapter: str, model: str, folder: Path) -> str:
    """The reference as a model of its own, which any other with the same tokenizer could take the place of."""
    AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32).merge_and_unload().save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


def recorded(options: argparse.Namespace, reference: str, data: Dataset, name: str) -> str:
    """The store of what a reference model says of the data: `sstoken record --as reference` does the same."""
    settings = {"sstoken": True, "sstoken_strategy": "full"}
    folder = options.output / name
    trainer(options, reference, data, data, "recording", **settings).record_reference(str(folder))
    return str(folder)


def held_out_loss(made: Any) -> float:
    return float(made.evaluate()["eval_loss"])
