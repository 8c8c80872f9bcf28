"""`sstoken inspect` with the flags of `sstoken sft`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sstoken_report.inspection import ADAPTER_FILE, InspectArguments, present, resume, saved_config

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


def inspect(argv: Sequence[str]) -> None:
    """Scores the samples, prints them, and writes the page and the tables.

    Raises:
        ValueError: for what the training would refuse too.
        OSError: if something can't be read or written.
    """
    script_args, training_args, model_args, dataset_args, own = _parse(argv)
    Path(own.out).mkdir(parents=True, exist_ok=True)
    training_args.output_dir = own.out  # the training's own is left alone
    asked_for = training_args.token_selection()
    trainer = _trainer(script_args, training_args, model_args, dataset_args, own)
    step = resume(trainer.token_selector, Path(own.adapter or model_args.model_name_or_path))
    present(trainer, own, asked_for, step)


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
        saved = {PREFIX + name: value for name, value in saved_config(Path(folder)).items()}
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
