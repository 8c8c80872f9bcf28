"""Data and model of a training with TRL or Axolotl, from its YAML."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from sstoken_plugins.installing import how_to_install

from .data import Source, Table
from .errors import AuditError


def read(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The training's rows, and its tokenizer where the rows come tokenised, else None; what `arguments` leave unset is
    set as the training has it: model, 4 bits, precision, `max_length`.

    Raises:
        AuditError: if the YAML cannot be read, or is none of a supervised training with TRL or Axolotl.
    """
    from sstoken_axolotl.framework import Axolotl
    from sstoken_trl.framework import TRL

    settings = _settings(arguments)
    if Axolotl().recognises(settings) > TRL().recognises(settings):
        if importlib.util.find_spec("axolotl") is None:
            raise AuditError(
                f"--config {arguments.config} is for Axolotl, which is not installed here: {how_to_install('axolotl')}"
            )
        found = _of_axolotl(arguments)
    else:
        found = _of_trl(arguments), None
    arguments.out = arguments.out or arguments.config.with_name(f"{arguments.config.stem}-audit")
    return found


def _settings(arguments: argparse.Namespace) -> Mapping[str, Any]:
    import yaml

    if not arguments.config.is_file():
        raise AuditError(f"--config {arguments.config} is no file.")
    try:
        settings = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise AuditError(f"--config {arguments.config} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise AuditError(f"--config {arguments.config} holds no settings (`key: value`).")
    return settings


def _of_axolotl(arguments: argparse.Namespace) -> tuple[Source, Any]:
    """The rows as Axolotl has tokenised, masked, cut and shuffled them; packing comes later and changes no row."""
    from axolotl.loaders import load_tokenizer

    from sstoken_axolotl.compat import load_cfg, load_datasets
    from sstoken_axolotl.settings import leaving_no_trace

    # What Axolotl prints on the way is not the answer; the training's own folder is left alone.
    with tempfile.TemporaryDirectory() as folder, leaving_no_trace(), contextlib.redirect_stdout(sys.stderr):
        try:
            cfg = load_cfg(arguments.config, output_dir=folder)
            tokenizer = load_tokenizer(cfg)
            rows = load_datasets(cfg).train_dataset
        except (ValueError, TypeError, OSError) as error:
            raise AuditError(f"--config {arguments.config}: {error}") from error
    if not hasattr(rows, "__len__"):
        raise AuditError("The training streams its data, which cannot be read twice: set `streaming: false`.")
    arguments.model = arguments.model or cfg.base_model
    arguments.load_in_4bit = arguments.load_in_4bit or bool(cfg.load_in_4bit)
    arguments.max_length = None  # the rows are cut already
    if arguments.dtype == "auto" and cfg.bf16 is True:
        arguments.dtype = "bfloat16"
    return Table(rows, str(arguments.config)), tokenizer


def _of_trl(arguments: argparse.Namespace) -> Any:
    from sstoken_trl.sft import load_rows, make_parser

    command = ["--config", str(arguments.config), "--output_dir", "unused", "--use_cpu", "true", "--bf16", "false"]
    try:
        script, training, model, mixture = make_parser(prog="sstoken audit").parse_args_and_config(
            [*command, "--sstoken", "false"], fail_with_unknown_args=False
        )[:4]
        field = training.dataset_text_field
        rows = next(load_rows(script, mixture, script.dataset_train_split, text_field=field))
    except (ValueError, TypeError, SystemExit) as error:
        raise AuditError(f"--config {arguments.config} is no configuration of a training with TRL: {error}") from error
    if not hasattr(rows, "__len__"):
        raise AuditError("The training streams its data, which cannot be read twice: set dataset_streaming to false.")
    arguments.model = arguments.model or model.model_name_or_path
    arguments.load_in_4bit = arguments.load_in_4bit or bool(model.load_in_4bit)
    arguments.max_length = training.max_length
    if arguments.dtype == "auto" and model.dtype in ("float32", "bfloat16", "float16"):
        arguments.dtype = model.dtype
    return rows
