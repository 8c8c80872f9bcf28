"""The training itself: what anybody would write for their own run, plus quiet logs and a progress bar."""

from __future__ import annotations

import json
import logging
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
from .errors import DemoError
from .model import model_folder
from .output import MARKER
from .summary import Results, print_summary

HELD_OUT, BATCH = 32, 8


def run(
    console: Console, output_dir: Path, steps: int, minutes: float | None, rho: float, gamma: float, seed: int
) -> None:
    """Trains for `steps`, or as many as fit in `minutes`, saves the adapter in `output_dir` and prints the summary.

    Raises:
        DemoError: with a message for the user.
    """
    _be_quiet()
    args = _arguments(output_dir, steps, rho, gamma, seed)  # refuses bad values before the model is touched
    model = model_folder(console)
    train, held_out = conversations(HELD_OUT, seed)
    console.print(f"{len(train)} conversations to learn from, {len(held_out)} held out")
    with console.status("Loading the model in 4-bit"):
        trainer = _trainer(model, args, train, held_out)
    before = _held_out_loss(console, trainer, "before")
    (output_dir / MARKER).write_text(json.dumps({"steps": steps, "rho": rho, "gamma": gamma, "seed": seed}) + "\n")
    began = time.monotonic()
    numbers = "loss {task.fields[loss]}  kept {task.fields[kept]}"
    with _progress(console, numbers) as progress:
        trainer.add_callback(_Bar(progress, steps))
        if minutes is not None:
            trainer.add_callback(_Deadline(began + 60 * minutes))
        trainer.train()
    seconds = time.monotonic() - began
    after = _held_out_loss(console, trainer, "after")
    trainer.save_model(str(output_dir))
    print_summary(console, trainer, train, Results(before, after, seconds, output_dir))


def _arguments(output_dir: Path, steps: int, rho: float, gamma: float, seed: int) -> SSTokenSFTConfig:
    try:
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
    except ValueError as error:
        raise DemoError(str(error).replace("`sstoken_", "`--")) from error


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
            bnb_4bit_compute_dtype=torch.bfloat16 if args.bf16 or _cpu_has_bf16() else torch.float32,
        ),
        peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear"),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _gpu_has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def _cpu_has_bf16() -> bool:
    """Whether bfloat16 is the faster one; elsewhere it is emulated and the slower."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return not torch.cuda.is_available() and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _held_out_loss(console: Console, trainer: SSTokenSFTTrainer, when: str) -> float:
    what = f"Held-out replies, {when} training"
    with _progress(console) as progress:
        bar = _EvaluationBar(progress, what, len(trainer.get_eval_dataloader()))
        trainer.add_callback(bar)
        loss: float = trainer.evaluate()["eval_loss"]
        trainer.remove_callback(bar)
    return loss


def _progress(console: Console, numbers: str = "") -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn(numbers),
        TimeRemainingColumn(),
        console=console,
        expand=True,
        disable=not console.is_terminal,
    )


class _Bar(TrainerCallback):
    """Moves the bar; where output is not a terminal, prints a line now and then instead."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self._progress = progress
        self._task = progress.add_task("Training", total=steps, loss="-", kept="-")
        self._steps = steps

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        loss, kept = f"{logs['loss']:.2f}", f"{logs['sstoken/keep_rate']:.0%}"
        self._progress.update(self._task, completed=state.global_step, loss=loss, kept=kept)
        if self._progress.disable and (state.global_step % 10 == 0 or state.global_step in (1, self._steps)):
            self._progress.console.print(f"Training: step {state.global_step}/{self._steps}, loss {loss}, kept {kept}")


class _EvaluationBar(TrainerCallback):
    """The same for an evaluation, by batches."""

    def __init__(self, progress: Progress, what: str, batches: int) -> None:
        self._progress, self._what, self._batches, self._done = progress, what, batches, 0
        self._task = progress.add_task(what, total=batches)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._done += 1
        self._progress.update(self._task, completed=self._done)
        if self._progress.disable:
            self._progress.console.print(f"{self._what}: batch {self._done}/{self._batches}")


class _Deadline(TrainerCallback):
    """Ends the training early on a slow or busy machine."""

    def __init__(self, at: float) -> None:
        self._at = at

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if time.monotonic() > self._at:
            control.should_training_stop = True


def _be_quiet() -> None:
    """A newcomer cannot tell a harmless warning from another."""
    import datasets
    import transformers

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("accelerate", "peft", "trl", "py.warnings"):
        logging.getLogger(name).setLevel(logging.ERROR)
