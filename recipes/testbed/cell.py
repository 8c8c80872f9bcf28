"""One cell of the testbed: one arm, one flaw, one seed; trained with TRL and LoRA, measured before and after."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import logging
import math
import random
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measure
import oracle
import torch
import variants
from flaws import FLAWS, Sample, none
from skills import Item, held_out

TRUSTED = "trusted"
"""As `Cell.data`, the few right samples; as `reference_adapter` among the options, an adapter trained on them."""
TRUSTED_SHARE = 0.25
REFERENCE_RATE = 4e-3


@dataclass(frozen=True)
class Cell:
    """All that decides how a cell comes out, besides the code and the base model.

    The seed decides on the samples, on what is spoiled of them, on their order and on the fresh adapter: cells of one
    seed differ in the arm alone.
    """

    arm: str  # the name that tables show
    flaw: str
    seed: int
    options: dict[str, Any] = field(default_factory=dict)  # of the selection: `sstoken_` goes in front of each name
    regime: str = "many"  # the name that tables show, of the two numbers below
    samples: int = 640
    epochs: int = 1
    learning_rate: float = 3e-3
    batch: int = 16
    lora_r: int = 8
    split: str = "test"  # which held-out items are measured: "test", or "validation" where this cell is to choose
    data: str = "flawed"  # what trains: that, or "trusted", a few samples that are known to be right, again and again
    items_seed: int = 0  # of the held-out items
    new_items: int = 200
    old_items: int = 24  # of each old skill
    aimed: int = 200  # training samples on which REL's aim is measured

    @property
    def name(self) -> str:
        by_arm = ("strategy", "signal")
        chosen = "".join(f"-{name}={value}" for name, value in self.options.items() if name not in by_arm)
        rate = f"{self.learning_rate:g}"
        of = f"{self.split}{self.items_seed}-seed{self.seed}"
        return f"{self.regime}-{self.flaw}-{self.arm}{chosen}-lr{rate}-{of}"


def run(cell: Cell, base: Path, device: str = "cpu") -> dict[str, Any]:
    """Trains and measures: the cell's settings and results, as JSON values.

    Of the items of `cell.split`: `new`, a 0 or 1 for each item of the new skill answered exactly; `old`, the same for
    each old skill; and of the new skill's right answers `loss`, mean nats per token, and `loss_tempered`, at the
    temperature that is best for the validation items. `auc`: of REL, and of the log-probability now and before, over
    training tokens, the chance that a sound one is above a spoiled one.
    """
    _set_up()
    started, started_cpu = time.perf_counter(), time.process_time()
    samples = training_data(cell)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = dict(cell.options)
        if options.get("reference_adapter") == TRUSTED:
            options["reference_adapter"] = _reference(cell, base, device)
        train = trusted_data(cell) if cell.data == TRUSTED else samples
        oracle.KNOWN.start(train)
        trainer = _trainer(dataclasses.replace(cell, options=options), base, train, f"{folder}/run", device)
        ready = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
    trained = time.perf_counter()
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    result = _measured(cell, model, samples)
    return {
        "cell": dataclasses.asdict(cell),
        **result,
        **oracle.KNOWN.shares(),
        "steps": trainer.state.global_step,
        "seconds": {
            "all": time.perf_counter() - started,
            "set_up": ready - started,
            "training": trained - ready,
            "cpu": time.process_time() - started_cpu,
        },
    }


def training_data(cell: Cell) -> list[Sample]:
    """The same for all arms of a seed."""
    return FLAWS[cell.flaw](cell.samples, random.Random(f"{cell.flaw} {cell.samples} {cell.seed}"), _avoided(cell))


def trusted_data(cell: Cell) -> list[Sample]:
    """Right samples, a quarter as many as `training_data` and each four times, so that they make as many steps."""
    count = max(1, round(TRUSTED_SHARE * cell.samples))
    few = none(count, random.Random(f"{TRUSTED} {cell.samples} {cell.seed}"), _avoided(cell))
    return [few[number % count] for number in range(cell.samples)]


_REFERENCES: dict[str, tempfile.TemporaryDirectory[str]] = {}
"""Folders of adapters, by the cell that makes them; they last as long as this process."""


def _reference(cell: Cell, base: Path, device: str) -> str:
    """The folder of the adapter that methods with a reference take: trained on the trusted data, once a seed."""
    alike = dataclasses.replace(
        cell, arm="reference", flaw="none", options={"strategy": "full"}, learning_rate=REFERENCE_RATE, data=TRUSTED
    )
    key = json.dumps([dataclasses.asdict(alike), str(base), device])
    if key not in _REFERENCES:
        folder = tempfile.TemporaryDirectory(prefix="testbed-reference-")
        _train_reference(alike, base, folder.name, device)
        _REFERENCES[key] = folder
    return _REFERENCES[key].name


def _train_reference(cell: Cell, base: Path, folder: str, device: str) -> None:
    train = trusted_data(cell)
    oracle.KNOWN.start(train)
    trainer = _trainer(cell, base, train, folder, device)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    trainer.save_model(folder)


def _avoided(cell: Cell) -> frozenset[Item]:
    return frozenset(item for split in ("validation", "test") for item in _held_out(split, cell)[0])


def _held_out(split: str, cell: Cell) -> tuple[list[Item], dict[str, list[Item]]]:
    return held_out(split, cell.new_items, cell.old_items, cell.items_seed)


def _trainer(cell: Cell, base: Path, samples: list[Sample], folder: str, device: str) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback

    from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer

    tokenizer, model = _loaded(base)
    torch.manual_seed(cell.seed)  # of the adapter
    rows = [{"prompt": " ".join(s.prompt), "completion": " " + " ".join(s.response[:-1])} for s in samples]
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = SSTokenSFTTrainer(
            model=model(),
            args=SSTokenSFTConfig(
                output_dir=folder,
                sstoken=True,
                **{f"sstoken_{name}": value for name, value in cell.options.items()},
                per_device_train_batch_size=cell.batch,
                num_train_epochs=cell.epochs,
                learning_rate=cell.learning_rate,
                lr_scheduler_type="linear",
                warmup_steps=4,
                max_length=None,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=device == "cpu",
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                seed=cell.seed,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=cell.lora_r, lora_alpha=2 * cell.lora_r, lora_dropout=0.0, target_modules="all-linear"
            ),
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


@functools.cache
def _loaded(base: Path) -> tuple[Any, Any]:
    """The tokenizer, and a function that gives the base model anew."""
    import copy

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    return AutoTokenizer.from_pretrained(base), lambda: copy.deepcopy(model)


def _measured(cell: Cell, model: Any, samples: list[Sample]) -> dict[str, Any]:
    some = samples[:: max(1, len(samples) // cell.aimed)]
    spoiled = [bad for sample in some for bad in sample.spoiled]
    current = measure.label_log_probs(model, some)
    with model.disable_adapter():
        before = measure.label_log_probs(model, some)
    model.merge_adapter()  # measuring is faster so
    choosing, _ = _held_out("validation", cell)
    temperature = measure.best_temperature(*measure.log_probs(model, measure.answers(choosing)))
    new, old = _held_out(cell.split, cell)
    scores, tokens = measure.log_probs(model, measure.answers(new))
    loss, tempered = measure.nll(scores, tokens), measure.nll(scores, tokens, temperature)
    if not math.isfinite(loss + tempered):
        raise FloatingPointError(f"{cell.name} has no finite loss after training: lower its learning rate")
    marks = measure.exact(model, [*new, *(item for items in old.values() for item in items)])
    bits = "".join(str(int(mark)) for mark in marks)
    n, m = len(new), cell.old_items
    return {
        "new": bits[:n],
        "old": {name: bits[n + i * m : n + (i + 1) * m] for i, name in enumerate(old)},
        "loss": loss,
        "loss_tempered": tempered,
        "temperature": temperature,
        "auc": {
            "rel": measure.auc(current - before, spoiled),
            "log_prob": measure.auc(current, spoiled),
            "base_log_prob": measure.auc(before, spoiled),
        },
    }


@functools.cache
def _set_up() -> None:
    """Registers what the testbed adds, and silences what would draw over its progress bar."""
    import datasets
    import transformers

    from sstoken_plugins import registry

    for plugin in (oracle, variants):
        registry.plugin_manager().register(plugin)
    datasets.disable_progress_bars()
    datasets.disable_caching()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("sstoken_plugins").setLevel(logging.ERROR)
