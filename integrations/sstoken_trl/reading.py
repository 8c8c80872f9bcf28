"""What TRL would train on, as text: for `sstoken audit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from trl import get_quantization_config

from sstoken_plugins.errors import refused
from sstoken_transformers.framework import TrainingData

from .arguments import make_parser
from .config import SSTokenSFTConfig
from .sft import load_rows, require_model, trusts_code


def training_data(argv: Sequence[str]) -> TrainingData:
    """See `Framework.training_data`."""
    parser = make_parser(prog="sstoken audit")
    if not torch.accelerator.is_available():
        # A configuration for a GPU can be looked at without one.
        parser.set_defaults(use_cpu=True, bf16=False)
    switches = ["--output_dir", "unused", "--sstoken", "false", "--report_to", "none"]
    script_args, training_args, model_args, dataset_args = parser.parse_args_and_config(
        [*argv, *switches], fail_with_unknown_args=False
    )[:4]
    require_model(training_args, model_args)
    rows = next(
        load_rows(
            script_args, dataset_args, script_args.dataset_train_split, text_field=training_args.dataset_text_field
        )
    )
    if not hasattr(rows, "__len__"):
        raise refused("The training streams its data, which cannot be read twice: set dataset_streaming to false.")
    quantised = get_quantization_config(model_args)
    loading = {
        "dtype": model_args.dtype or "auto",
        "revision": model_args.model_revision,
        "trust_remote_code": trusts_code(training_args, model_args),
        "attn_implementation": model_args.attn_implementation,
        **({"quantization_config": quantised} if quantised else {}),
        **(training_args.model_init_kwargs or {}),
    }
    return TrainingData(
        rows=rows,
        model=model_args.model_name_or_path,
        loading={name: value for name, value in loading.items() if value is not None},
        autocast="bf16" if training_args.bf16 else "fp16" if training_args.fp16 else "no",
        max_length=training_args.max_length,
        other_tokens=_other_tokens(rows[0], training_args) if len(rows) else None,
    )


def _other_tokens(first: Mapping[str, Any], args: SSTokenSFTConfig) -> str | None:
    """Of the answers alone, their beginnings, in the tokenizer's own chat template: so `sstoken audit` reads rows."""
    if "messages" in first and not args.assistant_only_loss:
        return "assistant_only_loss is False, and every token of the conversations trains"
    if "completion" in first and args.completion_only_loss is False:
        return "completion_only_loss is False, and the prompts train too"
    if args.packing and args.packing_strategy != "bfd":
        return f"packing_strategy is {args.packing_strategy!r}, which cuts samples"
    for name, usual in (("truncation_mode", "keep_start"), ("chat_template_path", None), ("eos_token", None)):
        if (value := getattr(args, name, usual)) != usual:
            return f"{name} is {value!r}"
    return None
