"""Examines the YAML and the flags of `swift sft`: with swift's own arguments and template, and a model without
weights."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig

from sstoken_plugins import TokenSelector
from sstoken_transformers.doctor.data import count, judge
from sstoken_transformers.doctor.diagnosis import Diagnosis
from sstoken_transformers.doctor.model import examine_model, skeleton
from sstoken_transformers.doctor.versions import versions
from sstoken_transformers.framework import CommandLine
from sstoken_transformers.tokenizer import fingerprint

from .compat import read_arguments, template_and_rows
from .looking import arguments, own_environment
from .names import own_name
from .options import token_selection
from .unsupported import unsupported_run


def examine(command: CommandLine) -> Diagnosis:
    """See `Framework.examine`."""
    found = Diagnosis("ms-swift", list(versions("torch", "transformers", "ms-swift", "peft")), own_name)
    with own_environment():
        argv = arguments(command)
        selector = args = None
        with found.looking_at("The selection"):
            selector = TokenSelector(token_selection())
            found.selection = selector.summary
        with found.looking_at("The arguments"):
            args = read_arguments(argv)
        if args is not None:
            _examine(args, selector, found)
    return found


def _examine(args: Any, selector: TokenSelector | None, found: Diagnosis) -> None:
    if not any("sstoken_swift" in str(path) for path in args.external_plugins):
        found.add(
            "`external_plugins` does not have sstoken_swift, so this run trains on every token: add what "
            "`python -m sstoken_swift` prints."
        )
    template = rows = None
    with found.looking_at("The data"):
        template, rows = template_and_rows(args)
        if rows:
            columns = ("input_ids", "labels")
            found.data = count(Dataset.from_list([{name: row[name] for name in columns} for row in rows]), selector)
    if template is not None:
        found.add(*unsupported_run(args, template, selector))
    with found.looking_at("The model"):
        model = skeleton(AutoConfig.from_pretrained(args.model_dir), args.torch_dtype, args.attn_impl, found)
        if args.tuner_type == "lora":
            model = get_peft_model(model, LoraConfig(r=args.lora_rank, target_modules="all-linear"))
        tokenizer = None if template is None else fingerprint(template.tokenizer)
        examine_model(model, selector, tokenizer, args.output_dir, found)
    judge(found, selector, args.num_train_epochs if args.max_steps <= 0 else None)
