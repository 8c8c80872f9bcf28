"""Next items by name, trained plainly and with weights by information gain (IGD, arXiv 2506.13229).

    pip install ".[demo]"          # in a checkout of sstoken-plugins
    python recipes/recommendation/run.py
    python recipes/recommendation/run.py --steps 200 --rows 800 --seed 1

The data are made here: people go through series of books with long common names, in order. It prints how often the
model names the right next item, greedily, for people that it was not trained on, at the end of either training.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from information_gain import tokens_of, weights
from peft import LoraConfig
from rich.console import Console
from transformers import AutoTokenizer

from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer
from sstoken_trl.demo.model import model_folder

SERIES = ["The Chronicles of the Silver River", "The Chronicles of the Hollow Crown", "The Last Lighthouse Keeper",
          "The Last Orchard of the North", "A Beginner's Guide to the Night Sky", "A Beginner's Guide to Wild Bread",
          "Letters from the Edge of the Map", "Letters from a Small Island Garden"]  # fmt: skip
VOLUMES = ["one", "two", "three", "four", "five", "six"]


def make_rows(n: int, seed: int) -> list[dict[str, str]]:
    """People who read two series in turns, and what each reads next."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        (first, start), (second, other) = ((name, rng.randrange(3)) for name in rng.sample(SERIES, 2))
        read = [(first, start), (second, other), (first, start + 1), (second, other + 1)]
        names = [f"{series}, volume {VOLUMES[volume]}" for series, volume in read]
        rows.append(
            {
                "prompt": f"Read so far: {'; '.join(names)}.\nRead next:",
                "completion": f" {first}, volume {VOLUMES[start + 2]}",
            }
        )
    return rows


def train(options: argparse.Namespace, model: str, rows: list[dict[str, str]], name: str, **selection: Any) -> Any:
    """A training with LoRA, which logs into a folder of this name."""
    torch.manual_seed(options.seed)
    trainer = SSTokenSFTTrainer(
        model=model,
        args=SSTokenSFTConfig(
            output_dir=str(options.output / name),
            max_steps=options.steps,
            per_device_train_batch_size=options.batch,
            learning_rate=options.learning_rate,
            lr_scheduler_type="constant",
            logging_steps=max(1, options.steps // 10),
            save_strategy="no",
            report_to="none",
            seed=options.seed,
            bf16=False,
            use_cpu=not torch.accelerator.is_available(),
            gradient_checkpointing=False,
            model_init_kwargs={"dtype": "float32"},
            sstoken=True,
            sstoken_strategy="full",
            **selection,
        ),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
    )
    trainer.train()
    return trainer


@torch.no_grad()
def named_rightly(trainer: Any, rows: list[dict[str, str]]) -> float:
    """The share of rows whose item the model would write greedily: each of its tokens is the likeliest."""
    tokenizer, model = trainer.processing_class, trainer.model.eval()
    right = 0
    for row, item in zip(rows, tokens_of(rows, tokenizer), strict=True):
        ids = torch.tensor([[*tokenizer(row["prompt"])["input_ids"], *item]], device=model.device)
        guessed = model(input_ids=ids).logits[0, -len(item) - 1 : -1].argmax(-1)
        right += guessed.tolist() == list(item)
    return right / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="name or folder (default: SmolLM2-135M-Instruct, from its PyPI package)")
    parser.add_argument("--output", type=Path, default=Path("outputs/recommendation"))
    parser.add_argument("--rows", type=int, default=400, help="people to train on")
    parser.add_argument("--held-out", type=int, default=100, help="people to test on")
    parser.add_argument("--beta", type=float, default=0.1, help="weight of tokens that decide nothing")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of each training")
    parser.add_argument("--batch", type=int, default=4, help="samples of each step")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = options.model or str(model_folder(Console(stderr=True)))
    # Equal rows would need equal weights, which they have; none is held out that was trained on.
    rows = list({row["prompt"]: row for row in make_rows(4 * options.rows, options.seed)}.values())
    kept, held_out = rows[: options.rows], rows[options.rows : options.rows + options.held_out]
    options.output.mkdir(parents=True, exist_ok=True)
    numbers = weights(tokens_of(kept, AutoTokenizer.from_pretrained(model)), options.beta)
    path = options.output / "weights.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in numbers), encoding="utf-8")
    arms = {
        "plain": {},
        "information gain": {"sstoken_weights_file": str(path), "sstoken_divisor": "weights"},
    }
    found = {}
    for name, selection in arms.items():
        trainer = train(options, model, kept, name.replace(" ", "-"), **selection)
        found[name] = named_rightly(trainer, held_out)
    (options.output / "result.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print("Named rightly: " + ", ".join(f"{share:.1%} ({name})" for name, share in found.items()))


if __name__ == "__main__":
    main()
