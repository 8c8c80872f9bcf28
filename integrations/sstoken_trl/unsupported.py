"""What cannot be combined with token selection under TRL, found before the model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sstoken_plugins import TokenSelector
from sstoken_plugins.histories.base import WITHOUT_ADAPTER
from sstoken_transformers.unsupported import unsupported

from .config import SSTokenSFTConfig
from .data import images, without_prompt_in_raw


def unsupported_arguments(arguments: Mapping[str, Any], selector: TokenSelector | None) -> Iterator[str]:
    """What of the arguments of an `SSTokenSFTTrainer` can't be combined with token selection, and why.

    Args:
        selector: None if it is not known what is selected by: then only what never works is found.
    """
    args: SSTokenSFTConfig = arguments["args"]
    yield from unsupported(args, arguments.get("compute_loss_func"))
    if args.packing and args.packing_strategy == "wrapped":
        yield (
            "`packing_strategy` is 'wrapped', which cuts documents anywhere and forgets where they begin: token "
            "selection needs whole documents. Set it to 'bfd'."
        )
    if args.loss_type not in ("nll", "chunked_nll"):
        yield (
            f"`loss_type` is {args.loss_type!r}, but token selection trains on the plain loss of the kept tokens: set "
            "it to 'nll'."
        )
    if args.use_liger_kernel and SSTokenSFTConfig.loss_type is None:
        yield (
            "`use_liger_kernel` is True, and this version of TRL takes its metrics from Liger's fused loss, which "
            "gives no per-token losses: set it to False, or use TRL 1.16 or newer."
        )
    model, peft_config = arguments.get("model"), arguments.get("peft_config")
    without_adapter = peft_config is None and not hasattr(model, "peft_config")
    if without_adapter and selector is not None and selector.history is not None and selector.history.requires_adapter:
        yield (
            f"`history` is {selector.config.history!r} but there is no adapter (`peft_config` is None; `use_peft` on "
            f"the command line): {WITHOUT_ADAPTER}"
        )
    dataset = arguments.get("train_dataset")
    sample = next(iter(dataset), None) if dataset is not None else None
    if sample is not None:
        yield from images(sample)
        if selector is not None and "attention" in selector.needs and arguments.get("formatting_func") is None:
            yield from without_prompt_in_raw(sample, args)
