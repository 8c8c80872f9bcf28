"""Data and model of a training with TRL, from its YAML."""

from __future__ import annotations

import argparse
from typing import Any

from .errors import AuditError


def read(arguments: argparse.Namespace) -> Any:
    """The training's rows; what `arguments` leave unset is set as the training has it: model, 4 bits, precision,
    `max_length`.

    Raises:
        AuditError: if the YAML cannot be read, or is not one of `trl sft` or `sstoken sft`.
    """
    from sstoken_trl.sft import load_rows, make_parser

    if not arguments.config.is_file():
        raise AuditError(f"--config {arguments.config} is no file.")
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
    arguments.out = arguments.out or arguments.config.with_name(f"{arguments.config.stem}-audit")
    return rows
