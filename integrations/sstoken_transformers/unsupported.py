"""What cannot be combined with token selection, refused before anything expensive starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from transformers import TrainingArguments

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import Problem, refuse


def refuse_unsupported(args: TrainingArguments) -> None:
    """Raises:
    Refused: naming every such option, its value and how to fix it.
    """
    refuse(unsupported(args))


def unsupported(args: TrainingArguments) -> Iterator[Problem]:
    """What of a trainer's arguments can't be combined with token selection, and why."""
    if args.torch_compile:
        yield Problem("`torch_compile` is True, which token selection does not support yet: set it to False.")
    parallelism = getattr(args, "parallelism_config", None)
    for name in ("cp_size", "sp_size", "tp_size"):
        if (size := getattr(parallelism, name, 1) or 1) > 1:
            yield Problem(
                "`parallelism_config` has {name}={size}, which cuts documents into pieces that are scored apart: "
                "token selection needs whole sequences on every device. Set it to 1 and use data parallelism.",
                name=name,
                size=size,
            )
    plugin = getattr(args, "deepspeed_plugin", None)
    if plugin is not None and plugin.zero_stage == 3:
        yield Problem(
            "`deepspeed` is set up with ZeRO stage 3, which token selection does not support yet: use stage 2, or DDP."
        )
    if args.n_gpu > 1:
        yield Problem(
            "{n} GPUs are visible to one process, for which Trainer uses nn.DataParallel: start the run with "
            "`accelerate launch`, or make one GPU visible with CUDA_VISIBLE_DEVICES.",
            n=args.n_gpu,
        )


def needs_framework_loss(args: TrainingArguments, compute_loss_func: Callable[..., Any] | None = None) -> str | None:
    """Why the loss has to be the trainer's own, over the labels of the kept tokens; None if it need not be."""
    if args.label_smoothing_factor > 0:
        return f"`label_smoothing_factor` is {args.label_smoothing_factor}"
    if compute_loss_func is not None:
        return "`compute_loss_func` is set"
    return None


def unsupported_by_fsdp(selector: TokenSelector, version: int) -> Iterator[Problem]:
    """What cannot be had where FSDP shards the weights; `version` is 1 or 2."""
    if version == 1:
        yield Problem(
            "The model is sharded by FSDP version 1, whose flattened parameters token selection cannot follow: set "
            "`fsdp_version: 2` in the FSDP configuration, or train with DDP."
        )
    if selector.history is not None and not selector.history.follows_shards:
        yield Problem(
            "{history} is {name!r}, whose copy of the adapter cannot follow weights that FSDP shards: set it to "
            "'base', 'adapter', 'recorded' or 'last_visit', or train with DDP.",
            name=selector.config.history,
        )
