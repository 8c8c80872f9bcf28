"""`sstoken inspect`: which tokens would train, before a training or at one of its checkpoints.

sstoken inspect --model Qwen/Qwen3-0.6B --data chats.jsonl --assistant_only_loss
sstoken inspect --config run.yaml --adapter out/checkpoint-100 --rho 0.5
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHORT = {
    "--model": "--model_name_or_path",
    "--data": "--dataset_name",
    "--split": "--dataset_train_split",
}
# What an inspection does without, whatever the training does. These flags win, since they come last.
SWITCHES = {
    "--sstoken": "true",
    "--sstoken_report_steps": "0",
    "--sstoken_history_record": "false",
    "--eval_strategy": "no",
    "--save_strategy": "no",
    "--load_best_model_at_end": "false",
    "--push_to_hub": "false",
    "--report_to": "none",
}
ADAPTER_FILE, STATE_FILE, TRAINER_FILE = "adapter_config.json", "sstoken.json", "trainer_state.json"


@dataclass
class InspectArguments:
    """What `sstoken inspect` takes beside the flags of `sstoken sft`. Short for those: `--model`, `--data` (also a
    file), `--split`, and the options of ssToken without their prefix: `--rho`, `--gamma`, `--history_adapter`, ..."""

    n_samples: int = field(default=50, metadata={"aliases": ["-n"], "help": "How many samples to score."})
    adapter: str | None = field(
        default=None, metadata={"help": "Folder of a trained adapter, such as a checkpoint; without: before training."}
    )
    out: str = field(default=".", metadata={"help": "Folder for sstoken-inspect.html, .parquet and .json."})
    show: int = field(default=3, metadata={"help": "How many samples to print."})


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one is plenty, and DataParallel is not supported
    try:
        inspect(argv)
    except (ValueError, OSError) as error:
        print(f"sstoken inspect: {error}", file=sys.stderr)
        return 1
    return 0


def inspect(argv: Sequence[str]) -> None:
    """Scores the samples, prints them, and writes the page and the tables.

    Raises:
        ValueError: for what the training would refuse too.
        OSError: if something can't be read or written.
    """
    from rich.console import Console

    from sstoken_report import terminal
    from sstoken_report.folder import write, write_text
    from sstoken_report.page import render
    from sstoken_report.samples import Samples
    from sstoken_report.scoring import score

    script_args, training_args, model_args, dataset_args, own = _parse(argv)
    out = Path(own.out)
    out.mkdir(parents=True, exist_ok=True)
    training_args.output_dir = own.out  # the training's own is left alone
    asked_for = training_args.token_selection()
    trainer = _trainer(script_args, training_args, model_args, dataset_args, own)
    selector = trainer.token_selector
    assert selector is not None
    step = _resume(selector, own.adapter or model_args.model_name_or_path)
    samples = Samples(trainer, trainer.get_train_dataloader(), own.n_samples)
    if not len(samples):
        raise ValueError("None of the samples has a response token: nothing would be learned from them.")
    report = score(trainer, selector, samples, step)
    report.about.update(config=asked_for.to_dict(), summary=asked_for.summary())
    report.about["model"] = own.adapter or report.about["model"]
    console = Console(highlight=False)
    terminal.show(console, report, own.show)
    for note in report.about["notes"]:
        console.print(f"\n[bold]Note[/bold]  {note}")
    if own.adapter is None:
        console.print("\nTo look at a trained model, add --adapter and the folder of a checkpoint.")
    page = out / "sstoken-inspect.html"
    write_text(page, render(report))
    write(page.with_suffix(".parquet"), report.write_parquet)
    write(page.with_suffix(".json"), report.write_json)
    console.print(f"\n{page}  and the same as .parquet and .json", soft_wrap=True, markup=False)


def _parse(argv: Sequence[str]) -> tuple[Any, ...]:
    import torch
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, TrlParser

    from .config import PREFIX, SSTokenSFTConfig

    kinds = (ScriptArguments, SSTokenSFTConfig, ModelConfig, DatasetMixtureConfig, InspectArguments)
    parser = TrlParser(kinds, prog="sstoken inspect", description=InspectArguments.__doc__)
    arguments = _long(argv, parser)
    folders = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    folders.add_argument("--adapter")
    folders.add_argument("--model_name_or_path")
    known = folders.parse_known_args(arguments)[0]
    folder = known.adapter or known.model_name_or_path
    if folder:  # a checkpoint knows how its tokens are chosen
        fields = {option.name for option in dataclasses.fields(SSTokenSFTConfig)}
        saved = {PREFIX + name: value for name, value in _saved_config(Path(folder)).items()}
        parser.set_defaults(**{name: value for name, value in saved.items() if name in fields})
    if not torch.accelerator.is_available():
        # A configuration for a GPU can be looked at without one.
        parser.set_defaults(use_cpu=True, bf16=False)
    switches = [part for flag, value in SWITCHES.items() for part in (flag, value)]
    return parser.parse_args_and_config([*arguments, *switches], fail_with_unknown_args=False)


def _long(argv: Sequence[str], parser: Any) -> list[str]:
    """The flags as TRL knows them."""
    from sstoken_plugins import SSTokenConfig

    from .config import PREFIX

    short = dict(SHORT)
    for option in dataclasses.fields(SSTokenConfig):
        if f"--{option.name}" not in parser._option_string_actions:  # `--seed` is TRL's
            short[f"--{option.name}"] = f"--{PREFIX}{option.name}"
    arguments = []
    for argument in argv:
        flag, *value = argument.split("=", 1)
        arguments.append("=".join([short.get(flag, flag), *value]))
    names = {argument.split("=", 1)[0] for argument in arguments}
    if "--sstoken_history_adapter" in names and "--sstoken_history" not in names:
        arguments += ["--sstoken_history", "adapter"]
    return arguments


def _trainer(script_args: Any, training_args: Any, model_args: Any, dataset_args: Any, own: InspectArguments) -> Any:
    from . import unchanged
    from .sft import make_trainer

    replaced: dict[str, Any] = {"train_dataset": _data(script_args, dataset_args, own.n_samples)}
    name = model_args.model_name_or_path
    if own.adapter is None and name and Path(name, ADAPTER_FILE).is_file():
        own.adapter = name
    if not (name or own.adapter):
        raise ValueError("No model: set --model, or --adapter.")
    if own.adapter is not None:
        replaced |= {"model": _adapted(model_args, own.adapter), "peft_config": None, "quantization_config": None}
    elif training_args.sstoken_history in unchanged.REPLACES:
        # A fresh adapter would not change the model, and cost a second pass; only on 4 bits, Trainer wants one.
        unchanged.register()
        training_args.sstoken_history = unchanged.NAME
        if not (model_args.load_in_4bit or model_args.load_in_8bit):
            replaced["peft_config"] = None
    return make_trainer(script_args, training_args, model_args, dataset_args, **replaced)


def _data(script_args: Any, dataset_args: Any, number: int) -> Any:
    """As many rows as are asked for, at equal distances, so that a large data set is not prepared for nothing."""
    import itertools

    from datasets import Dataset, load_dataset

    from .sft import load_data

    path = Path(script_args.dataset_name or "")
    if path.is_file():
        kind = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}.get(path.suffix)
        if kind is None:
            raise ValueError(f"--data is {str(path)!r}: files of type .jsonl, .json, .parquet and .csv are read.")
        data = load_dataset(kind, data_files=str(path), split="train")
    else:
        data = load_data(script_args, dataset_args)[script_args.dataset_train_split]
    if not hasattr(data, "__len__"):
        return Dataset.from_list(list(itertools.islice(data, number)))
    number = min(number, len(data))
    return data.select([i * len(data) // number for i in range(number)])


def _adapted(model_args: Any, adapter: str) -> Any:
    """The base model with the trained adapter on it."""
    import warnings

    from peft import PeftModel
    from trl import get_quantization_config
    from trl.trainer.utils import create_model_from_path

    base = model_args.model_name_or_path
    if base is None or base == adapter:
        base = json.loads(Path(adapter, ADAPTER_FILE).read_text(encoding="utf-8"))["base_model_name_or_path"]
    model_args.model_name_or_path = base
    model = create_model_from_path(
        base,
        revision=model_args.model_revision,
        trust_remote_code=getattr(model_args, "trust_remote_code", False),
        attn_implementation=model_args.attn_implementation,
        dtype=model_args.dtype,
        quantization_config=get_quantization_config(model_args),
    )
    # That the base model is below the trained adapter is what is to be seen here.
    warnings.filterwarnings("ignore", message="`history` is 'base' and training continues from an adapter")
    return PeftModel.from_pretrained(model, adapter, is_trainable=True)


def _saved_config(folder: Path) -> dict[str, Any]:
    state = folder / STATE_FILE
    config: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))["config"] if state.is_file() else {}
    return config


def _resume(selector: Any, folder: str) -> int:
    """Gives the history what the checkpoint knows of it; returns the checkpoint's step."""
    from sstoken_transformers.state import TENSORS_FILE, load_state

    path = Path(folder)
    if (path / TENSORS_FILE).is_file() and _saved_config(path)["history"] == selector.config.history:
        load_state(selector, path)
    if (path / TRAINER_FILE).is_file():
        return int(json.loads((path / TRAINER_FILE).read_text(encoding="utf-8"))["global_step"])
    return selector.config.rel_warmup_steps if (path / ADAPTER_FILE).is_file() else 0
