"""One cell of the protocol: one arm, one condition, one seed; trained with TRL and LoRA, measured after."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import logging
import random
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import abilities
import measure
import torch
from conditions import Condition, Example, load

NOTHING, FLAWED, SOUND, TRUSTED = "none", "flawed", "sound", "trusted"
SMALL = "smollm2-135m"
"""A name of a model: SmolLM2-135M-Instruct as it comes from PyPI."""


@dataclass(frozen=True)
class Cell:
    """All that decides how a cell comes out, besides the code and the sources.

    The seed decides on samples, order and fresh adapter: cells of one seed differ in the arm alone.
    """

    arm: str  # the name that tables show
    condition: str
    seed: int
    options: dict[str, Any] = field(default_factory=dict)  # of the selection: `sstoken_` goes in front of each name
    data: str = FLAWED  # what trains: that; "sound", the same without its flaws; "trusted", others; or "none"
    learning_rate: float = 1e-4
    split: str = "test"  # which held-out items are measured: "test", or "validation" where this cell is to choose
    model: str = SMALL
    precision: str = "float32"  # float32, bfloat16 or 4bit
    samples: int = 256
    max_tokens: int = 160  # of a sample without its flaw, where that is known; longer ones are left out
    trusted: int = 64  # samples of the reference and of the arm "trusted"
    batch: int = 8
    accumulation: int = 1
    epochs: float = 1
    warmup: float = 0.03
    lora_r: int = 64
    lora_alpha: int = 16
    lora_dropout: float = 0.1
    gradient_checkpointing: bool = False
    held_out: int = 100
    tasks: list[str] = field(default_factory=list)
    limit: int | None = 50  # items of each task
    at_once: int = 16  # choices of a task scored at once

    @property
    def name(self) -> str:
        chosen = "".join(f"-{name}={value}" for name, value in self.options.items() if name != "strategy")
        model = self.model.rsplit("/", 1)[-1]
        return f"{model}-{self.condition}-{self.arm}{chosen}-lr{self.learning_rate:g}-{self.split}-seed{self.seed}"


def run(cell: Cell, folder: Path | None, own: tuple[Path, Path] | None) -> dict[str, Any]:
    """Trains and measures: the cell's settings and results, as JSON values; `skill` by item, `abilities` by task."""
    _set_up()
    started, started_cpu = time.perf_counter(), time.process_time()
    condition = _load(cell.condition, folder, own)
    with tempfile.TemporaryDirectory() as output, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = dict(cell.options)
        if options.get("reference_adapter") == TRUSTED:
            options["reference_adapter"] = _reference(cell, condition)
        train = training_data(cell, condition)
        trainer = _trainer(dataclasses.replace(cell, options=options), train, output)
        log: dict[str, Any] = {}
        if cell.data != NOTHING:
            with contextlib.redirect_stdout(io.StringIO()):
                trainer.train()
            log = next((entry for entry in reversed(trainer.state.log_history) if "sstoken/keep_rate" in entry), {})
    trained = time.perf_counter()
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    tokenizer = trainer.processing_class
    held_out = condition.held_out[cell.split][: cell.held_out]
    with _autocast(cell):
        skill = measure.skill(model, tokenizer, condition.held_out["validation"][: cell.held_out], held_out)
        able = abilities.measure(model.get_base_model(), tokenizer, cell.tasks, cell.limit, cell.at_once, folder)
    return {
        "cell": dataclasses.asdict(cell),
        "skill": skill,
        "abilities": able,
        "keep_rate": log.get("sstoken/keep_rate"),
        "steps": trainer.state.global_step,
        "train_samples": len(train),
        "seconds": {
            "all": time.perf_counter() - started,
            "training": trained - started,
            "cpu": time.process_time() - started_cpu,
        },
    }


@functools.cache
def _load(condition: str, folder: Path | None, own: tuple[Path, Path] | None) -> Condition:
    return load(condition, folder, own)


def training_data(cell: Cell, condition: Condition) -> list[Example]:
    """The same for all arms of a seed, but for those that train on sound or trusted examples.

    Raises:
        ValueError: if there are not as many short ones as wanted, or no sound ones are known.
    """
    if cell.data == TRUSTED:
        few = _drawn(cell, condition.trusted, cell.trusted, "trusted")
        return [few[number % len(few)] for number in range(cell.samples)]  # as many steps as the others make
    drawn = _drawn(cell, condition.train, cell.samples, "samples")
    if cell.data != SOUND:
        return drawn
    sound = [dataclasses.replace(one, answer=one.sound) for one in drawn if one.sound is not None]
    if not sound:
        raise ValueError(f"`data: sound` in arm {cell.arm!r}: of {cell.condition!r} it is not known what is sound.")
    return sound


def _drawn(cell: Cell, pool: Sequence[Example], count: int, name: str) -> list[Example]:
    tokenizer = tokenizer_of(cell.model)
    some = random.Random(f"{cell.condition} {cell.seed}").sample(list(pool), len(pool))
    short: list[Example] = []
    for one in some:
        # By what the answer was before it was spoiled: else longer flaws would be rarer than they are in the data.
        if len(measure.tokens_of(tokenizer, one.prompt, one.sound or one.answer)[0]) <= cell.max_tokens:
            short.append(one)
        if len(short) == count:
            return short
    raise ValueError(
        f"`{name}` is {count}, but {cell.condition!r} has {len(short)} of at most {cell.max_tokens} tokens: set it to "
        "at most that, or `max_tokens` higher."
    )


_REFERENCES: dict[str, tempfile.TemporaryDirectory[str]] = {}
"""Folders of adapters, by the cell that makes them; they last as long as this process."""


def _reference(cell: Cell, condition: Condition) -> str:
    """The folder of the adapter that methods with a reference take: plain fine-tuning on trusted samples."""
    alike = dataclasses.replace(cell, arm="reference", options={"strategy": "full"}, data=TRUSTED)
    key = json.dumps(dataclasses.asdict(alike))
    if key not in _REFERENCES:
        folder = tempfile.TemporaryDirectory(prefix="protocol-reference-")
        trainer = _trainer(alike, training_data(alike, condition), folder.name)
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
        trainer.save_model(folder.name)
        _REFERENCES[key] = folder
    return _REFERENCES[key].name


def _trainer(cell: Cell, samples: list[Example], folder: str) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback

    from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer

    torch.manual_seed(cell.seed)  # of the adapter
    rows = [
        {
            "prompt": [{"role": "user", "content": one.prompt}],
            "completion": [{"role": "assistant", "content": one.answer}],
        }
        for one in samples
    ]
    steps = max(1, round(cell.epochs * len(rows) / (cell.batch * cell.accumulation)))
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = SSTokenSFTTrainer(
            model=str(path_of(cell.model)),
            args=SSTokenSFTConfig(
                output_dir=folder,
                sstoken=True,
                **{f"sstoken_{name}": value for name, value in cell.options.items()},
                model_init_kwargs={"dtype": "float32" if cell.precision == "float32" else "bfloat16"},
                per_device_train_batch_size=cell.batch,
                gradient_accumulation_steps=cell.accumulation,
                num_train_epochs=cell.epochs,
                learning_rate=cell.learning_rate,
                lr_scheduler_type="linear",
                warmup_steps=round(cell.warmup * steps),
                max_length=None,
                gradient_checkpointing=cell.gradient_checkpointing,
                bf16=cell.precision != "float32",
                use_cpu=not torch.cuda.is_available(),
                logging_steps=steps,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                seed=cell.seed,
            ),
            train_dataset=Dataset.from_list(rows),
            quantization_config=_quantization(cell),
            peft_config=LoraConfig(
                r=cell.lora_r,
                lora_alpha=cell.lora_alpha,
                lora_dropout=cell.lora_dropout,
                target_modules="all-linear",
            ),
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _quantization(cell: Cell) -> Any:
    from transformers import BitsAndBytesConfig

    if cell.precision != "4bit":
        return None
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


@functools.cache
def path_of(model: str) -> str:
    """The folder or name that transformers loads."""
    if model != SMALL:
        return model
    from rich.console import Console

    from sstoken_trl.demo.model import model_folder

    return str(model_folder(Console()))


@functools.cache
def tokenizer_of(model: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path_of(model))


def _autocast(cell: Cell) -> contextlib.AbstractContextManager[None]:
    """As the trainer does it."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=cell.precision != "float32")


@functools.cache
def _set_up() -> None:
    """Silences what would draw over the progress bar."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("sstoken_plugins").setLevel(logging.ERROR)
