"""What cannot be combined with token selection under TRL, found before the model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import Problem
from sstoken_plugins.histories.below_adapter import WITHOUT_ADAPTER
from sstoken_transformers.rows import problems_of_texts
from sstoken_transformers.unsupported import (
    needs_framework_loss,
    requested_fsdp_version,
    sharded_by,
    unreadable_attention,
    unsupported,
    unsupported_recording,
    unsupported_sharding,
)

from .chats import problems_of_assistant_only
from .compat import COMPUTES_LOSS_IN_CHUNKS
from .config import SSTokenSFTConfig
from .data import problems_of_columns, unusable_without_prompt

RENAME = "rename them, as in dataset.rename_columns({{'question': 'prompt', 'answer': 'completion'}})."


def unsupported_arguments(arguments: Mapping[str, Any], selector: TokenSelector | None) -> Iterator[Problem]:
    """What of the arguments of an `SSTokenSFTTrainer` can't be combined with token selection, and why.

    Args:
        selector: None if it is not known what is selected by: then only what never works is found.
    """
    args: SSTokenSFTConfig = arguments["args"]
    yield from unsupported(args)
    needs_documents = selector is None or not selector.needs.isdisjoint(("attention", "unprompted"))
    if args.packing and args.packing_strategy == "wrapped" and needs_documents:
        yield Problem(
            "`packing_strategy` is 'wrapped', which cuts documents anywhere and forgets where they begin, but "
            "{strategy} {method!r} asks how much of an answer is owed to its prompt: set it to 'bfd', or {gamma} to 1 "
            "to select by the excess loss alone.",
            method="sstoken" if selector is None else selector.config.strategy,
        )
    reason = needs_framework_loss_under_trl(args) or needs_framework_loss(args, arguments.get("compute_loss_func"))
    if reason and selector is not None:
        yield from selector.problems_of_framework_loss(reason)
    model: Any = arguments.get("model")
    peft_config: Any = arguments.get("peft_config")
    if getattr(peft_config, "is_prompt_learning", False):
        yield Problem(
            "`peft_config` is of type {kind}, which adds virtual tokens to every sequence: token selection supports "
            "adapters on weights, such as LoRA.",
            kind=peft_config.peft_type.value,
        )
    if isinstance(model, str) and selector is not None:
        options = args.model_init_kwargs if isinstance(args.model_init_kwargs, Mapping) else {}
        known = {name: options[name] for name in ("revision", "trust_remote_code") if options.get(name)}
        yield from unreadable_attention(selector, model, **known)
    without_adapter = peft_config is None and not hasattr(model, "peft_config")
    if without_adapter and selector is not None and selector.history is not None and selector.history.requires_adapter:
        yield Problem(
            "{history} is {name!r} but there is no adapter (`peft_config` is None; `use_peft` on the command line): "
            + WITHOUT_ADAPTER,
            name=selector.config.history,
        )
    dataset = arguments.get("train_dataset")
    if selector is not None:
        yield from unsupported_sharding(requested_fsdp_version(args))
        yield from unsupported_recording(
            selector,
            has_adapter=not without_adapter,
            streams=dataset is not None and not hasattr(dataset, "__len__"),
            sharded=sharded_by(args),
        )
    if arguments.get("formatting_func") is None:
        if dataset is not None:
            yield from problems_of_columns(dataset, args.dataset_text_field, RENAME)
            yield from problems_of_assistant_only(arguments)
        yield from problems_of_texts(dataset, args.dataset_text_field)
    sample = next(iter(dataset), None) if dataset is not None else None
    if sample is None or selector is None or arguments.get("formatting_func") is not None:
        return
    if "attention" in selector.needs:
        yield from unusable_without_prompt(sample, args, selector)


def needs_framework_loss_under_trl(args: SSTokenSFTConfig) -> str | None:
    """Why the loss has to be TRL's own, over the labels of the kept tokens; None if it need not be."""
    if args.loss_type not in ("nll", "chunked_nll"):
        return f"`loss_type` is {args.loss_type!r}"
    if args.use_liger_kernel and COMPUTES_LOSS_IN_CHUNKS:
        # Before 1.16, TRL takes its metrics from Liger's fused loss.
        return "`use_liger_kernel` is True"
    return None
