"""One cell of the study: one strategy, one condition, one seed; trained with TRL, measured before and after."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import io
import logging
import os
import platform
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import variants
from conditions import CONDITIONS, Data, Encoder, Sample, chats, gsm8k
from items import Items, averaged
from measure import answers, exact_match, facts, final_tokens
from once import HISTORY, Once

from sstoken_plugins import BatchIndex, registry

VERSIONS = ("sstoken-plugins", "torch", "transformers", "trl", "peft", "bitsandbytes")
UNRELATED = {"gsm8k": "chats", "chats": "gsm8k"}  # the text that shows what was forgotten
UNRELATED_MAX_TOKENS = 120


@dataclass(frozen=True)
class Cell:
    """All that decides how a cell comes out.

    The seed decides on the samples, on what is spoiled of them, on their order and on the fresh adapter: cells of the
    same seed differ in the strategy alone.
    """

    strategy: str  # the name that tables show
    condition: str
    seed: int
    options: dict[str, Any] = field(default_factory=dict)  # of the selection
    data: str = "chats"
    precision: str = "bfloat16"  # float32, bfloat16 or 4bit
    samples: int = 64
    epochs: float = 1
    batch: int = 4
    learning_rate: float = 1e-3
    lora_r: int = 16
    max_tokens: int = 40  # of a sample, before it is spoiled
    held_out: int = 40
    unrelated: int = 6
    decoded: int = 0  # questions of GSM8K's test answered by greedy decoding

    @property
    def name(self) -> str:
        setting = f"{self.data}-{self.samples}x{self.epochs:g}-{self.precision}-{self.condition}"
        return f"{setting}-{self.strategy}-seed{self.seed}"

    @property
    def batches(self) -> tuple[Any, ...]:
        """What cells have in common that see the same batches in the same order."""
        same = dataclasses.replace(self, strategy="", options={})
        return tuple(value for name, value in vars(same).items() if name != "options")


def run(cell: Cell, model: str, gsm8k_folder: Path | None) -> dict[str, Any]:
    """Trains and measures: the cell's settings and results, as JSON values. `items` has what the means are over."""
    _set_up()
    tokenizer, encoder = _encoder(model)
    train, held_out, unrelated = _samples(cell, encoder, gsm8k_folder)
    variants.KNOWN.clear()
    variants.KNOWN.update(_corrupted_by_key(train))
    variants.SEEN.clear()
    Once.start(cell.batches)

    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(cell, model, tokenizer, train, folder)

        def measure() -> Items:
            with _autocast(cell):
                final = [final_tokens(sample, encoder) if cell.data == "gsm8k" else 0 for sample in held_out]
                result = answers(trainer.model, held_out, final)
                if cell.decoded and cell.data == "gsm8k":
                    questions = _load(cell.data, gsm8k_folder).held_out[: cell.decoded]
                    result["exact_match"] = exact_match(trainer.model, questions, encoder)
                elsewhere = answers(trainer.model, unrelated, [0] * len(unrelated))
                result |= {"unrelated_nll": elsewhere["nll"], "unrelated_tokens": elsewhere["tokens"]}
                return {**result, **facts(trainer.model, encoder)}

        # A fresh adapter changes nothing yet, so this is the same for all cells of a data set and precision.
        key = (model, cell.data, cell.precision, cell.max_tokens, cell.held_out, cell.unrelated, cell.decoded)
        before = _BEFORE[key] = _BEFORE.get(key) or averaged(measure())
        _reset_peak()
        started, started_cpu = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
        cpu_seconds = time.process_time() - started_cpu - Once.cpu_seconds
        seconds, memory = time.perf_counter() - started, _peak()
        items = measure()
    return {
        "cell": dataclasses.asdict(cell),
        "model": Path(model).name,
        **{f"{name}_before": value for name, value in before.items()},
        **averaged(items),
        **variants.SEEN.shares(),
        "train_tokens": sum(len(sample.row["input_ids"]) for sample in train),
        "response_tokens": sum(len(sample.response) for sample in train),
        "steps": trainer.state.global_step,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "memory_mb": memory,
        "device": _device(),
        "commit": _commit(),
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "items": items,
    }


_BEFORE: dict[tuple[Any, ...], dict[str, float]] = {}


@functools.cache
def _encoder(model: str) -> tuple[Any, Encoder]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return tokenizer, Encoder(tokenizer)


@functools.cache
def _load(name: str, gsm8k_folder: Path | None) -> Data:
    return gsm8k(gsm8k_folder) if name == "gsm8k" else chats()


def _samples(
    cell: Cell, encoder: Encoder, gsm8k_folder: Path | None
) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """To train on, held out, and unrelated."""
    data, other = _load(cell.data, gsm8k_folder), _load(UNRELATED[cell.data], gsm8k_folder)
    rng = random.Random(cell.seed)
    shuffled = rng.sample(data.train, len(data.train))
    # Whether a sample is short enough is asked before it is spoiled, so that all conditions have the same questions.
    pairs = _short(shuffled, encoder, cell.max_tokens, cell.samples)
    if len(pairs) < cell.samples:
        raise ValueError(
            f"`samples` is {cell.samples}, but {cell.data} has {len(pairs)} of at most {cell.max_tokens} tokens: set "
            "it to at most that, or `max_tokens` higher."
        )
    held_out = _short(data.held_out, encoder, cell.max_tokens, cell.held_out)
    unrelated = _short(other.held_out, encoder, UNRELATED_MAX_TOKENS, cell.unrelated)
    return (
        CONDITIONS[cell.condition](pairs, encoder, rng),
        [encoder.sample(*pair) for pair in held_out],
        [encoder.sample(*pair) for pair in unrelated],
    )


def _short(pairs: list[tuple[str, str]], encoder: Encoder, max_tokens: int, count: int) -> list[tuple[str, str]]:
    """The first of at most so many tokens."""

    def short() -> Iterator[tuple[str, str]]:
        for pair in pairs:
            sample = encoder.sample(*pair)
            if len(sample.prompt) + len(sample.response) <= max_tokens:
                yield pair

    return [pair for pair, _ in zip(short(), range(count), strict=False)]


def _corrupted_by_key(samples: list[Sample]) -> dict[int, torch.Tensor]:
    known = {}
    for sample in samples:
        row = {name: torch.tensor([values]) for name, values in sample.row.items()}
        known[int(BatchIndex.of(row).keys)] = torch.tensor(sample.corrupted)
    return known


def _trainer(cell: Cell, model: str, tokenizer: Any, train: list[Sample], folder: str) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig, PrinterCallback

    from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer

    options = {"history": HISTORY, **cell.options}
    quantization = None
    if cell.precision == "4bit":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = SSTokenSFTTrainer(
            model=model,
            args=SSTokenSFTConfig(
                output_dir=folder,
                sstoken=True,
                **{f"sstoken_{name}": value for name, value in options.items()},
                model_init_kwargs={"dtype": "float32" if cell.precision == "float32" else "bfloat16"},
                per_device_train_batch_size=cell.batch,
                num_train_epochs=cell.epochs,
                learning_rate=cell.learning_rate,
                lr_scheduler_type="linear",
                warmup_steps=2,
                max_length=None,
                gradient_checkpointing=False,
                bf16=cell.precision != "float32",
                use_cpu=not torch.cuda.is_available(),
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                seed=cell.seed,
            ),
            train_dataset=Dataset.from_list([sample.row for sample in train]),
            processing_class=tokenizer,
            quantization_config=quantization,
            peft_config=LoraConfig(
                r=cell.lora_r, lora_alpha=2 * cell.lora_r, lora_dropout=0.0, target_modules="all-linear"
            ),
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _autocast(cell: Cell) -> contextlib.AbstractContextManager[None]:
    """As the trainer does it."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=cell.precision != "float32")


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """MB, of the device; on a CPU of the whole process, since `_reset_peak` on Linux."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1e3
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


@functools.cache
def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"CPU {line.split(':')[1].strip()}"
    return f"CPU {platform.machine()}"


@functools.cache
def _commit() -> str | None:
    """Of this repository, if it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return None


@functools.cache
def _set_up() -> None:
    """Registers what the study adds, and silences what would draw over its progress bar."""
    import datasets
    import once
    import transformers

    for module in (variants, once):
        registry.plugin_manager().register(module)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("sstoken_plugins").setLevel(logging.ERROR)
