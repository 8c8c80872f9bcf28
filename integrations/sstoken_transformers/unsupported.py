"""What cannot be combined with token selection, refused before anything expensive starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from accelerate.parallelism_config import ParallelismConfig
from transformers import AutoConfig, TrainingArguments

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import Problem, Refused, refuse
from sstoken_plugins.model.attention import refuse_unreadable_attention

from .compat import model_classes

FSDP, ZERO_3 = "FSDP", "DeepSpeed ZeRO-3"
PIECES = "documents into pieces that are scored apart, but tokens are selected among those of a whole document"
CUTTING = {
    "cp_size": PIECES,
    "sp_size": PIECES,
    "tp_size": "each layer into pieces, so that no process has the output head and the attention that scores are "
    "read from",
}
"""Of a `ParallelismConfig`, the sizes that have to be 1, and what each cuts."""


def refuse_unsupported(args: TrainingArguments) -> None:
    """Raises:
    Refused: naming every such option, its value and how to fix it.
    """
    refuse(unsupported(args))


def unsupported(args: TrainingArguments) -> Iterator[Problem]:
    """What of a trainer's arguments can't be combined with token selection, and why."""
    yield from unsupported_parallelism(getattr(args, "parallelism_config", None) or _from_launcher())
    if args.n_gpu > 1:
        yield Problem(
            "{n} GPUs are visible to one process, for which Trainer uses nn.DataParallel: start the run with "
            "`accelerate launch`, or make one GPU visible with CUDA_VISIBLE_DEVICES.",
            n=args.n_gpu,
        )


def unsupported_parallelism(parallelism: Any) -> Iterator[Problem]:
    """What of a `ParallelismConfig` of accelerate (or None) cannot be combined with token selection."""
    for name, reason in CUTTING.items():
        if (size := getattr(parallelism, name, 1) or 1) > 1:
            yield Problem(
                "`parallelism_config` has {name}={size}, which cuts {reason}. Set it to 1 and use data parallelism "
                "(DDP, FSDP 2, DeepSpeed).",
                name=name,
                size=size,
                reason=reason,
            )


def _from_launcher() -> ParallelismConfig | None:
    """What a configuration of `accelerate launch` asks for, which the trainer's arguments do not know."""
    if os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG", "").lower() == "true":
        return ParallelismConfig()
    return None


def needs_framework_loss(args: TrainingArguments, compute_loss_func: Callable[..., Any] | None = None) -> str | None:
    """Why the loss has to be the trainer's own, over the labels of the kept tokens; None if it need not be."""
    if args.label_smoothing_factor > 0:
        return f"`label_smoothing_factor` is {args.label_smoothing_factor}"
    if compute_loss_func is not None:
        return "`compute_loss_func` is set"
    return None


def unreadable_attention(selector: TokenSelector, model: str, **options: Any) -> Iterator[Problem]:
    """Why the attention of a model cannot be read, before it is loaded.

    Args:
        options: of `AutoConfig.from_pretrained`.
    """
    if "attention" not in selector.needs:
        return
    try:
        config = AutoConfig.from_pretrained(model, **options)
    except Exception:
        return  # loading the model will say it better
    try:
        refuse_unreadable_attention(model_classes(config))
    except Refused as error:
        yield from error.problems


def sharded_by(args: TrainingArguments) -> str | None:
    """What will shard the weights, as far as a trainer's arguments and the launcher say. ZeRO-1 and 2 leave them
    whole."""
    plugin = getattr(args, "deepspeed_plugin", None)
    if plugin is not None:
        return ZERO_3 if plugin.zero_stage == 3 else None
    if args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        return FSDP
    return None


def unsupported_recording(
    selector: TokenSelector, *, has_adapter: bool, streams: bool, sharded: str | None
) -> Iterator[Problem]:
    """Why a history cannot be recorded before the first step, where the run would do that.

    Args:
        streams: whether the training data can be read only once.
        sharded: what shards or offloads the weights, if anything does.
    """
    if selector.history is None or not selector.history.will_record(has_adapter):
        return
    name = selector.config.history
    full = "" if has_adapter or name == "recorded" else ", which in full fine-tuning is recorded before the first step"
    if streams:
        yield Problem(
            f"{{history}} is {{name!r}}{full}, but the training data are a stream, which cannot be read once more: "
            "set {history} to 'last_visit', load the data without streaming, or train with an adapter and {history} "
            "'base'.",
            name=name,
        )
    if sharded:
        yield Problem(
            f"{{history}} is {{name!r}}{full}, but a history cannot be recorded under {{sharded}}: run "
            "`sstoken record` with {history_store} on one GPU or with DDP first, then train with {history} 'recorded' "
            "and that store; or set {history} to 'last_visit'.",
            name=name,
            sharded=sharded,
        )


def unsupported_sharding(fsdp_version: int | None) -> Iterator[Problem]:
    """What cannot be had where every process has a part of each weight.

    Args:
        fsdp_version: 1 or 2, if it is FSDP that shards.
    """
    if fsdp_version == 1:
        yield Problem(
            "The model is sharded by FSDP version 1, whose flattened parameters token selection cannot follow: use "
            "version 2 (`fsdp_version: 2` for accelerate and Axolotl, `version: 2` in Trainer's `fsdp_config`), or "
            "train with DDP."
        )


def requested_fsdp_version(args: TrainingArguments) -> int | None:
    """1 or 2 if the arguments or the launcher ask for FSDP, before there is a trainer that knows."""
    if sharded_by(args) != FSDP:
        return None
    return int(args.fsdp_config.get("version", 2) if args.fsdp else os.environ.get("FSDP_VERSION", 1))
