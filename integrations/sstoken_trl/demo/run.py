"""The training itself: what anybody would write for their own run, plus quiet logs and a progress bar."""

from __future__ import annotations

import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .model import DemoError, model_folder

MARKER = "sstoken-demo.json"
HELD_OUT, BATCH = 32, 8

__all__ = ["DemoError", "run"]


def run(output_dir: Path, steps: int, rho: float, gamma: float, seed: int, console: Console | None = None) -> None:
    """Trains, saves the adapter in `output_dir` and prints the summary.

    Raises:
        DemoError, ValueError: with a message for the user.
    """
    if output_dir.exists() and any(output_dir.iterdir()) and not (output_dir / MARKER).is_file():
        raise DemoError(f"{output_dir} holds something else: choose another --output-dir, nothing was changed.")
    _be_quiet()
    from .conversations import conversations
    from .summary import Results, print_summary

    console = console or Console()
    console.print("[bold]ssToken demo[/bold]: SmolLM2-135M-Instruct in 4-bit, LoRA, real conversations")
    with console.status("Preparing the model (once)"):
        model = model_folder()
    train, held_out = conversations(seed, HELD_OUT)
    trainer = _trainer(model, train, held_out, output_dir, steps, rho, gamma, seed)
    console.print(f"{len(train)} conversations to learn from, {len(held_out)} held out; {trainer.selection_summary}")
    with console.status("Measuring the held-out loss before training"):
        before = trainer.evaluate()["eval_loss"]
    began = time.monotonic()
    with _progress(console) as progress:
        trainer.add_callback(_bar(progress, steps))
        trainer.train()
    seconds = time.monotonic() - began
    with console.status("Measuring the held-out loss after training"):
        after = trainer.evaluate()["eval_loss"]
    trainer.save_model(output_dir)
    (output_dir / MARKER).write_text(json.dumps({"steps": steps, "rho": rho, "gamma": gamma, "seed": seed}) + "\n")
    print_summary(console, trainer, Results(before, after, seconds, output_dir))


def _trainer(
    model: Path, train: Any, held_out: Any, output_dir: Path, steps: int, rho: float, gamma: float, seed: int
) -> Any:
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig
    from transformers.trainer_callback import PrinterCallback

    from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer

    trainer = SSTokenSFTTrainer(
        model=str(model),
        args=SSTokenSFTConfig(
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
            bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=seed,
        ),
        train_dataset=train,
        eval_dataset=held_out,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=True,
        ),
        peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear"),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.selection_summary = trainer.token_selector.config.summary()
    return trainer


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("Training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  kept {task.fields[kept]}"),
        TimeRemainingColumn(),
        console=console,
    )


def _bar(progress: Progress, steps: int) -> Any:
    from transformers import TrainerCallback

    task = progress.add_task("", total=steps, loss="-", kept="-")

    class Bar(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "loss" in logs:
                kept = f"{logs.get('sstoken/keep_rate', 0):.0%}"
                progress.update(task, completed=state.global_step, loss=f"{logs['loss']:.2f}", kept=kept)

    return Bar()


def _be_quiet() -> None:
    import datasets
    import transformers

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("accelerate", "bitsandbytes", "peft", "trl", "py.warnings"):
        logging.getLogger(name).setLevel(logging.ERROR)
