"""One contender of the benchmark, in a process of its own: a real training that goes on step by step when told to."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

# What each trains with, beside the settings that all share. `plain` is TRL's own trainer without this package, `full`
# the same training on every token through this package's output head.
CONTENDERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "full": {"sstoken_strategy": "full"},
    "auto": {},
    "recorded": {"sstoken_history": "recorded", "sstoken_history_record": True},
    "last_visit": {"sstoken_history": "last_visit"},
    "base": {"sstoken_history": "base"},
    "snapshot": {"sstoken_history": "snapshot", "sstoken_refresh_steps": 100},
    "framework_loss": {"sstoken_history": "base", "sstoken_loss": "framework"},
    "naive": {},
    "bare": {},
}
RECORDED = {"sstoken_history": "recorded", "sstoken_history_record": True}
REFERENCE = "sstoken_reference_adapter"
# Methods that need more than their name.
METHODS: dict[str, dict[str, Any]] = {
    "signal": {"sstoken_signal": "rel", **RECORDED},
    "psft": {"sstoken_history": "snapshot", "sstoken_refresh_steps": 2},
    "rho1": {REFERENCE: ""},
    "token_cleaning": {REFERENCE: "", "sstoken_over": "sample", **RECORDED},
    "forgetting": {REFERENCE: "", "sstoken_over": "sample", **RECORDED},
}


def options_of(name: str) -> dict[str, Any]:
    """What a contender trains with; a name that is not listed above is a method's, with a recorded history if it
    reads one."""
    if name in CONTENDERS:
        return dict(CONTENDERS[name])
    if name in METHODS:
        return {"sstoken_strategy": name, **METHODS[name]}
    from sstoken_plugins import SSTokenConfig

    return {"sstoken_strategy": name, **(RECORDED if SSTokenConfig(strategy=name).reads_history else {})}


STEPS_PER_EPOCH = 2  # so that last_visit meets its samples again soon


@dataclass(frozen=True)
class Point:
    """What a row of the table is measured at."""

    model: str  # folder of the model
    tokens: int  # of each sample
    batch: int
    vocabulary: int
    precision: str  # bfloat16, float32 or 4bit
    gradient_checkpointing: bool
    rho: float = 0.6
    prompt: float = 0.25  # share of a sample's tokens
    lora_r: int = 16  # 0: all weights train


def serve(
    framework: str, name: str, point: Point, threads: int, packages: Path | None, connection: Connection
) -> None:
    """Trains. After every step, sends its seconds and peak memory and waits for the next "go"; "stop" ends it.

    Args:
        packages: a folder where another version of this package is installed, to be used instead.
    """
    if packages is not None:
        sys.path.insert(0, str(packages.resolve()))
    torch.set_num_threads(threads)
    be_quiet()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            if framework == "axolotl":
                from under_axolotl import train

                train(name, point, Path(folder), _OnDemand(connection))
            else:
                trainer = make_trainer(name, point, Path(folder))
                trainer.add_callback(_OnDemand(connection))
                trainer.train()
    except Exception as error:
        connection.send({"error": f"{type(error).__name__}: {error}"})


def make_trainer(name: str, point: Point, folder: Path, steps: int = STEPS_PER_EPOCH) -> Any:
    """TRL's, or that of this package or of naive.py.

    Args:
        steps: of an epoch.
    """
    from datasets import Dataset
    from naive import BareTrainer, NaiveTrainer
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from trl import SFTTrainer

    from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer

    options = options_of(name)
    others = {"plain": SFTTrainer, "naive": NaiveTrainer, "bare": BareTrainer}
    if name not in others:
        options |= {"sstoken": True}
        if "sstoken_strategy" not in options:
            options["sstoken_rho"] = point.rho
    if "sstoken_history_record" in options:
        options["sstoken_history_store"] = str(folder / "store")
    lora = None
    if point.lora_r:
        lora = LoraConfig(r=point.lora_r, lora_alpha=2 * point.lora_r, lora_dropout=0.0, target_modules="all-linear")
    if REFERENCE in options:
        options[REFERENCE] = str(folder / "reference")
        get_peft_model(AutoModelForCausalLM.from_pretrained(point.model), lora).save_pretrained(options[REFERENCE])
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    cls = others.get(name, SSTokenSFTTrainer)
    torch.manual_seed(0)
    return cls(
        model=point.model,
        args=SSTokenSFTConfig(
            output_dir=str(folder),
            model_init_kwargs={
                "dtype": "float32" if point.precision == "float32" else "bfloat16",
                "attn_implementation": "eager" if name == "naive" else "sdpa",
            },
            per_device_train_batch_size=point.batch,
            max_length=None,
            max_steps=10_000,
            gradient_checkpointing=point.gradient_checkpointing,
            bf16=torch.cuda.is_available(),
            use_cpu=not torch.cuda.is_available(),
            logging_steps=10,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **options,
        ),
        train_dataset=Dataset.from_list(samples(point, steps)),
        quantization_config=quantization if point.precision == "4bit" else None,
        peft_config=lora,
    )


def samples(point: Point, steps: int = STEPS_PER_EPOCH) -> list[dict[str, list[int]]]:
    """Random tokens, of which the first are the prompt; for so many steps."""
    rng = random.Random(0)
    n_prompt = int(point.prompt * point.tokens)
    rows = []
    for _ in range(steps * point.batch):
        ids = [rng.randrange(point.vocabulary) for _ in range(point.tokens)]
        labels = [-100] * n_prompt + ids[n_prompt:]
        rows.append({"input_ids": ids, "attention_mask": [1] * point.tokens, "labels": labels})
    return rows


class _OnDemand:
    """A callback: a step lasts from one call to the next, so loading its batch and logging belong to it."""

    def __new__(cls, connection: Connection) -> Any:
        from transformers import TrainerCallback

        class OnDemand(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                self._wait(control)

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                seconds = time.perf_counter() - self._began
                connection.send({"seconds": seconds, "peak_mb": _peak()})
                self._wait(control)

            def _wait(self, control: Any) -> None:
                if connection.recv() == "stop":
                    control.should_training_stop = True
                _reset_peak()
                self._began = time.perf_counter()

        return OnDemand()


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):  # Linux alone can reset the peak of a process
            Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """MB: of the device; on a CPU, of the whole process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return float(peak.split()[1]) / 1e3


def be_quiet() -> None:
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("sstoken_plugins").setLevel(logging.ERROR)
