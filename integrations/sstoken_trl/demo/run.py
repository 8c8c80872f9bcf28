"""The training itself: what anybody would write for their own run, plus quiet logs and a progress bar."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from transformers import BitsAndBytesConfig, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer

from .conversations import Sample, conversations
from .model import DemoError, model_folder
from .summary import Results, print_summary

MARKER = "sstoken-demo.json"
HELD_OUT, BATCH = 32, 8

__all__ = ["DemoError", "run"]


def run(output_dir: Path, steps: int, rho: float, gamma: float, seed: int, console: Console | None = None) -> None:
    """Trains, saves the adapter in `output_dir` and prints the summary.

    Raises:
        DemoError, ValueError: with a message for the user.
    """
    _be_quiet()
    console = console or Console(highlight=False)
    console.print("[bold]ssToken demo[/bold]: SmolLM2-135M-Instruct in 4-bit, LoRA, real conversations")
    _claim(output_dir, console)
    args = _arguments(output_dir, steps, rho, gamma, seed)  # refuses bad values before the model is touched
    model = model_folder(console)
    train, held_out = conversations(HELD_OUT, seed)
    console.print(f"{len(train)} conversations to learn from, {len(held_out)} held out")
    with console.status("Loading the model in 4-bit"):
        trainer = _trainer(model, args, train, held_out)
    console.print(f"ssToken is on: {trainer.token_selector.config.summary()}")
    with console.status("Measuring the loss on held-out replies before training"):
        before = trainer.evaluate()["eval_loss"]
    (output_dir / MARKER).write_text(json.dumps({"steps": steps, "rho": rho, "gamma": gamma, "seed": seed}) + "\n")
    began = time.monotonic()
    with _progress(console) as progress:
        trainer.add_callback(_Bar(progress, steps))
        trainer.train()
    seconds = time.monotonic() - began
    with console.status("Measuring the loss on held-out replies after training"):
        after = trainer.evaluate()["eval_loss"]
    trainer.save_model(output_dir)
    print_summary(console, trainer, train, Results(before, after, seconds, output_dir))


def _claim(output_dir: Path, console: Console) -> None:
    """Raises:
    DemoError: if the folder holds what no earlier demo run has written.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise DemoError(f"--output-dir {output_dir} is a file: choose another folder, nothing was changed.")
    if output_dir.is_dir() and any(output_dir.iterdir()):
        if not (output_dir / MARKER).is_file():
            raise DemoError(
                f"--output-dir {output_dir} holds something else than an earlier demo run: choose another folder, "
                "nothing was changed."
            )
        console.print(f"Replacing the earlier demo run in {output_dir}")
    output_dir.mkdir(parents=True, exist_ok=True)


def _arguments(output_dir: Path, steps: int, rho: float, gamma: float, seed: int) -> SSTokenSFTConfig:
    return SSTokenSFTConfig(
        sstoken=True,
        sstoken_rho=rho,
        sstoken_gamma=gamma,
        output_dir=str(output_dir),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        learning_rate=3e-4,
        warmup_steps=max(1, steps // 20),
        max_length=256,
        gradient_checkpointing=False,
        bf16=_gpu_has_bf16(),
        use_cpu=not torch.cuda.is_available(),  # bitsandbytes' 4-bit layers are no match for other accelerators
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
    )


def _trainer(model: Path, args: SSTokenSFTConfig, train: list[Sample], held_out: list[Sample]) -> SSTokenSFTTrainer:
    from datasets import Dataset

    trainer = SSTokenSFTTrainer(
        model=str(model),
        args=args,
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(held_out),
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if _gpu_has_bf16() else torch.float32,
        ),
        peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear"),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _gpu_has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("Training"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  kept {task.fields[kept]}"),
        TimeRemainingColumn(),
        console=console,
        expand=True,
        disable=not console.is_terminal,
    )


class _Bar(TrainerCallback):
    """Moves the bar; where output is not a terminal, prints a line now and then instead."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=steps, loss="-", kept="-")
        self._steps = steps

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        loss, kept = f"{logs['loss']:.2f}", f"{logs['sstoken/keep_rate']:.0%}"
        self._progress.update(self._task, completed=state.global_step, loss=loss, kept=kept)
        if self._progress.disable and (state.global_step % 10 == 0 or state.global_step in (1, self._steps)):
            self._progress.console.print(f"Training: step {state.global_step}/{self._steps}, loss {loss}, kept {kept}")


def _be_quiet() -> None:
    """Everything is on this machine already, and a newcomer cannot tell a harmless warning from another."""
    import datasets
    import huggingface_hub
    import transformers

    huggingface_hub.constants.HF_HUB_OFFLINE = True  # the variable was read when the hub's client was imported
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one is plenty, and DataParallel is not supported
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("accelerate", "bitsandbytes", "peft", "trl", "py.warnings"):
        logging.getLogger(name).setLevel(logging.ERROR)
