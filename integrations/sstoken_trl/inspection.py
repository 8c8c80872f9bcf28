"""What TRL would train on, for `sstoken inspect`: the flags of `sstoken sft`, some of them shorter."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from peft import PeftModel
from trl import get_quantization_config

from sstoken_plugins import all_options, registry
from sstoken_plugins.errors import refused
from sstoken_plugins.histories.below_adapter import CONTINUES
from sstoken_report.inspection import ADAPTER_FILE, saved_config
from sstoken_transformers.framework import Look, Looked
from sstoken_transformers.looking import OF_CHECKPOINT, UNCHANGED, is_full_checkpoint, recorded_store, register

from .arguments import long_flags, make_parser, refuse_unknown
from .compat import launcher_flags, load_model
from .config import SSTokenSFTConfig, own_names
from .names import PREFIX
from .sft import load_rows, make_trainer

# What an inspection does without, whatever the training does. These flags win, since they come last.
SWITCHES = {
    "--sstoken": "true",
    "--eval_strategy": "no",
    "--save_strategy": "no",
    "--load_best_model_at_end": "false",
    "--push_to_hub": "false",
    "--report_to": "none",
}
UNSET = ("report_steps", "history_record")


@contextlib.contextmanager
def looking(argv: Sequence[str], look: Look) -> Iterator[Looked]:
    """See `Framework.look`."""
    script_args, training_args, model_args, dataset_args = _parse(argv, look)
    training_args.output_dir = look.out  # the training's own is left alone
    asked_for = training_args.token_selection()
    for name in UNSET:
        setattr(training_args, PREFIX + name, None)
    replaced: dict[str, Any] = {
        "train_dataset": _data(script_args, dataset_args, training_args.dataset_text_field, look.n_samples)
    }
    name, adapter = model_args.model_name_or_path, look.adapter
    if adapter is None and name and (Path(name, ADAPTER_FILE).is_file() or is_full_checkpoint(name)):
        adapter = name
    if not (name or adapter):
        raise refused("No model: set --model, or --adapter.")
    if adapter is not None and is_full_checkpoint(adapter):
        model_args.model_name_or_path, replaced["peft_config"] = adapter, None
        if asked_for.reads_history and asked_for.history == "auto" and (store := recorded_store(Path(adapter))):
            register()
            training_args.sstoken_history, training_args.sstoken_history_store = OF_CHECKPOINT, str(store)
    elif adapter is not None:
        replaced |= {"model": _adapted(model_args, adapter), "peft_config": None, "quantization_config": None}
    elif asked_for.reads_history and registry.lookup("history", asked_for.history).begins_as_model:
        # A fresh adapter would not change the model, and cost a second pass; only on 4 bits, Trainer wants one.
        _as_unchanged(training_args, asked_for.history)
        if not (model_args.load_in_4bit or model_args.load_in_8bit):
            replaced["peft_config"] = None
    yield Looked(make_trainer(script_args, training_args, model_args, dataset_args, **replaced), asked_for, adapter)


def _as_unchanged(training_args: SSTokenSFTConfig, history: str) -> None:
    register()
    training_args.sstoken_history = UNCHANGED
    for option in dataclasses.fields(registry.lookup("history", history).Options):
        setattr(training_args, PREFIX + option.name, None)


def _parse(argv: Sequence[str], look: Look) -> tuple[Any, ...]:
    parser = make_parser(prog="sstoken inspect")
    arguments = _long(argv, parser)
    with tempfile.TemporaryDirectory() as folder:
        return _read(parser, _less_replaced(arguments, Path(folder)), look)


def _read(parser: Any, arguments: list[str], look: Look) -> tuple[Any, ...]:
    folders = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    folders.add_argument("--model_name_or_path")
    known = folders.parse_known_args(arguments)[0]
    folder = look.adapter or known.model_name_or_path
    if folder:  # a checkpoint knows how its tokens are chosen
        fields = {option.name for option in dataclasses.fields(SSTokenSFTConfig)}
        saved = {PREFIX + name: value for name, value in _saved(Path(folder), arguments).items()}
        parser.set_defaults(**{name: value for name, value in saved.items() if name in fields})
    if not torch.accelerator.is_available():
        # A configuration for a GPU can be looked at without one.
        parser.set_defaults(use_cpu=True, bf16=False)
    switches = [part for flag, value in SWITCHES.items() for part in (flag, value)]
    with own_names():
        *parsed, from_config, rest = parser.parse_args_and_config(
            [*arguments, *switches], return_remaining_strings=True, separate_remaining_strings=True
        )
    refuse_unknown(parser, from_config, rest, launcher_flags())
    return tuple(parsed)


def _saved(folder: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """The options of a checkpoint, unless another method or history is asked for, to which they would not belong."""
    saved = saved_config(folder)
    for name in _replaced(saved, arguments):
        saved.pop(name, None)
    return saved


def _less_replaced(arguments: Sequence[str], folder: Path) -> list[str]:
    """The arguments, with a YAML less the options that belong to a method or history that flags replace."""
    arguments = list(arguments)
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag != "--config":
            continue
        path = Path(value if equals else arguments[i + 1])
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        ours = {name.removeprefix(PREFIX): value for name, value in settings.items() if name.startswith(PREFIX)}
        dropped = {PREFIX + name for name in _replaced(ours, arguments)}
        left = {name: value for name, value in settings.items() if name not in dropped}
        (folder / path.name).write_text(yaml.safe_dump(left), encoding="utf-8")
        arguments[i : i + (1 if equals else 2)] = ["--config", str(folder / path.name)]
    return arguments


def _replaced(options: Mapping[str, Any], arguments: Sequence[str]) -> set[str]:
    """Names of options that belong to a method or history in whose place flags ask for another."""
    flags = {argument.split("=", 1)[0].removeprefix(f"--{PREFIX}") for argument in arguments}
    found = set()
    for kind, option in (("method", "strategy"), ("history", "history")):
        if option in flags and option in options:
            theirs = registry.registered(kind).get(options[option])
            found |= {option, *(each.name for each in dataclasses.fields(theirs.Options))} if theirs else {option}
    return found


def _long(argv: Sequence[str], parser: Any) -> list[str]:
    """The flags as TRL knows them; `--seed` is TRL's own."""
    arguments = long_flags(argv, parser, {f"--{name}": f"--{PREFIX}{name}" for name in all_options()})
    names = {argument.split("=", 1)[0] for argument in arguments}
    if "--sstoken_history_adapter" in names and "--sstoken_history" not in names:
        arguments += ["--sstoken_history", "adapter"]
    return arguments


def _data(script_args: Any, dataset_args: Any, text_field: str, number: int) -> Any:
    """As many rows as are asked for, at equal distances, so that a large data set is not prepared for nothing."""
    data = next(load_rows(script_args, dataset_args, script_args.dataset_train_split, text_field=text_field))
    if not hasattr(data, "__len__"):
        return Dataset.from_list(list(itertools.islice(data, number)))
    number = min(number, len(data))
    return data.select([i * len(data) // number for i in range(number)])


def _adapted(model_args: Any, adapter: str) -> Any:
    """The base model with the trained adapter on it."""
    base = model_args.model_name_or_path
    if base is None or base == adapter:
        base = json.loads(Path(adapter, ADAPTER_FILE).read_text(encoding="utf-8"))["base_model_name_or_path"]
    model_args.model_name_or_path = base
    model = load_model(
        base,
        revision=model_args.model_revision,
        trust_remote_code=getattr(model_args, "trust_remote_code", False),
        attn_implementation=model_args.attn_implementation,
        dtype=model_args.dtype,
        quantization_config=get_quantization_config(model_args),
    )
    # That the base model is below the trained adapter is what is to be seen here.
    warnings.filterwarnings("ignore", message=f".*{CONTINUES}")
    return PeftModel.from_pretrained(model, adapter, is_trainable=True)
