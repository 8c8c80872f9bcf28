"""What cannot be combined with token selection, refused before anything expensive starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainingArguments


def refuse_unsupported(args: TrainingArguments) -> None:
    """Raises:
    ValueError: naming the option, its value and the way out.
    """
    if args.torch_compile:
        raise ValueError("`torch_compile` is True, which token selection does not support yet: set it to False.")
    parallelism = getattr(args, "parallelism_config", None)
    for name in ("cp_size", "sp_size", "tp_size"):
        if (size := getattr(parallelism, name, 1) or 1) > 1:
            raise ValueError(
                f"`parallelism_config` has {name}={size}, which cuts documents into pieces that are scored apart: "
                "token selection needs whole sequences on every device. Set it to 1 and use data parallelism."
            )
    plugin = getattr(args, "deepspeed_plugin", None)
    if plugin is not None and plugin.zero_stage == 3:
        raise ValueError(
            "`deepspeed` is set up with ZeRO stage 3, which token selection does not support yet: use stage 2, or DDP."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs are visible to one process, for which Trainer uses nn.DataParallel: start the run "
            "with `accelerate launch`, or make one GPU visible with CUDA_VISIBLE_DEVICES."
        )


def needs_framework_loss(args: TrainingArguments, compute_loss_func: Callable[..., Any] | None = None) -> str | None:
    """Why the loss has to be the trainer's own, over the labels of the kept tokens; None if it need not be."""
    if args.label_smoothing_factor > 0:
        return f"`label_smoothing_factor` is {args.label_smoothing_factor}"
    if compute_loss_func is not None:
        return "`compute_loss_func` is set"
    return None
