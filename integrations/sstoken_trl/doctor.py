"""Examines the flags and the YAML of `sstoken sft`: with TRL's own trainer, on a model without weights."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from peft import get_peft_model
from transformers import IntervalStrategy

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import Refused
from sstoken_plugins.model.head import known_tokens
from sstoken_transformers.doctor.data import count, judge
from sstoken_transformers.doctor.diagnosis import Diagnosis
from sstoken_transformers.doctor.model import can_quantise, examine_model, skeleton
from sstoken_transformers.doctor.versions import versions
from sstoken_transformers.rows import problems_of_tokens
from sstoken_transformers.tokenizer import fingerprint

from .arguments import WrongCommandLine, long_flags, make_parser, refuse_unknown
from .chats import problems_of_assistant_only
from .compat import MetaTrainer, launcher_flags
from .config import SSTokenSFTConfig
from .data import hint
from .names import own_name
from .sft import configuration, trainer_arguments, trainer_data
from .unsupported import unsupported_arguments


def examine(argv: Sequence[str]) -> Diagnosis:
    """Raises:
    WrongCommandLine: for unknown flags and keys.
    """
    found = Diagnosis("TRL", list(versions("torch", "transformers", "trl", "peft", "bitsandbytes")), own_name)
    parsed, selector = _parse(argv, found)
    if parsed is None:
        return found
    script_args, args, model_args, dataset_args = parsed
    arguments = trainer_arguments(args, model_args)
    with found.looking_at("The data"):
        arguments |= trainer_data(script_args, args, dataset_args)
    found.add(*unsupported_arguments(arguments, selector))
    with found.looking_at("`load_in_4bit`"):
        can_quantise(arguments["quantization_config"])

    model = trainer = tokenizer = None
    with found.looking_at("The model"):
        model = _skeleton(arguments, found)
    rows = arguments.get("train_dataset")
    fails = rows is not None and any(problems_of_assistant_only(arguments))  # which has been said
    if model is not None and rows is not None and not fails:
        with found.looking_at("TRL's trainer"), tempfile.TemporaryDirectory() as folder:
            trainer = MetaTrainer(
                model=model,
                args=_harmless(args, folder),
                train_dataset=arguments["train_dataset"],
                peft_config=arguments["peft_config"],
            )
            tokenizer = fingerprint(trainer.processing_class)
            _examine_data(trainer.train_dataset, arguments, selector, found)
            found.add(*problems_of_tokens(trainer.train_dataset, known_tokens(model)))
    if model is not None:
        with found.looking_at("TRL's trainer"):
            # Where it has failed, it may have left half an adapter on the model.
            model = trainer.model if trainer is not None else _with_adapter(_skeleton(arguments, found), arguments)
            examine_model(model, selector, tokenizer, args.output_dir, found)
    advice = hint(arguments.get("train_dataset"), args)
    judge(found, selector, args.num_train_epochs if args.max_steps <= 0 else None, advice)
    return found


def _parse(argv: Sequence[str], found: Diagnosis) -> tuple[tuple[Any, ...] | None, TokenSelector | None]:
    """The arguments and the selection. Where they are refused, as much of them as can be had."""
    parser = make_parser(prog="sstoken doctor")
    arguments = long_flags(argv, parser)
    changes: list[str] = []
    for _ in range(3):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                *parsed, from_config, rest = parser.parse_args_and_config(
                    [*arguments, *changes], return_remaining_strings=True, separate_remaining_strings=True
                )
        except WrongCommandLine:
            raise
        except Refused as error:
            found.add(*error.problems)
            changes += ["--sstoken", "false"]
        except ValueError as error:
            found.add(str(error))
            changes += ["--use_cpu", "true"]  # what this machine can't do, a CPU is excused from
        else:
            refuse_unknown(parser, from_config, rest, launcher_flags())
            return tuple(parsed), None if "--sstoken" in changes else _selector(parsed[1], found)
    return None, None


def _selector(args: SSTokenSFTConfig, found: Diagnosis) -> TokenSelector | None:
    if not args.sstoken:
        found.add("`sstoken` is False: this run trains on every token. Set it to True (`--sstoken`).")
    with found.looking_at("The selection"):
        selector = TokenSelector(args.token_selection())
        found.selected(selector)
        return selector
    return None


def _skeleton(arguments: dict[str, Any], found: Diagnosis) -> Any:
    options = arguments["args"].model_init_kwargs
    config = configuration(
        arguments["model"], revision=options["revision"], trust_remote_code=options["trust_remote_code"]
    )
    dtype = getattr(torch, options["dtype"] or "float32", None)  # none for "auto"
    model = skeleton(config, dtype, options["attn_implementation"], found)
    if getattr(arguments["quantization_config"], "load_in_4bit", False):
        model.is_loaded_in_4bit = True  # for TRL's choice of the adapter's precision
    return model


def _with_adapter(model: Any, arguments: dict[str, Any]) -> Any:
    return model if arguments["peft_config"] is None else get_peft_model(model, arguments["peft_config"])


def _harmless(args: SSTokenSFTConfig, folder: str) -> SSTokenSFTConfig:
    """The same arguments, for a trainer that neither writes nor sends anything."""
    args = copy.copy(args)
    args.output_dir, args.push_to_hub, args.report_to = folder, False, []
    args.eval_strategy, args.load_best_model_at_end = IntervalStrategy.NO, False
    args.model_init_kwargs = None  # they have served
    return args


def _examine_data(dataset: Any, arguments: dict[str, Any], selector: TokenSelector | None, found: Diagnosis) -> None:
    given = arguments["train_dataset"]
    if not hasattr(dataset, "__len__"):
        found.note("The data are a stream: their tokens were not counted.")
        return
    if "labels" not in (dataset.column_names or ()):
        found.note("The data are tokenised when they are loaded, as pictures are: their tokens were not counted.")
        return
    found.data = count(dataset, selector)
    # A strategy of packing may cut samples, and makes more of them.
    found.data.left_out = max(0, len(given) - found.data.samples)
