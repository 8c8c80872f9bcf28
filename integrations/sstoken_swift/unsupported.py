"""What of ms-swift's arguments cannot be combined with token selection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import Problem
from sstoken_transformers.unsupported import (
    requested_fsdp_version,
    sharded_by,
    unreadable_attention,
    unsupported,
    unsupported_recording,
    unsupported_sharding,
)

# Switches that mean another loss, or samples in pieces; and the value that each has to have.
_SWITCHES: dict[str, tuple[Any, str]] = {
    "enable_dft_loss": (False, "computes another loss (`SSTOKEN_STRATEGY=dft` weighs tokens by the same)"),
    "enable_channel_loss": (False, "logs the loss of each channel from logits, which are never built"),
    "loss_type": (None, "computes another loss"),
    "tuner_backend": ("peft", "patches the model's own forward pass"),
}


def unsupported_arguments(args: Any, template: Any, selector: TokenSelector | None) -> Iterator[Problem]:
    """Args:
    args: of the trainer, or all of `swift sft`'s.
    template: of the run.
    selector: None if it is not known what is selected by.
    """
    for name, (needed, reason) in _SWITCHES.items():
        if (value := getattr(args, name, needed)) != needed:
            yield Problem(
                "`{name}` is {value!r}, which {reason}: set it to {needed!r}.",
                name=name,
                value=value,
                reason=reason,
                needed=needed,
            )
    if template.sequence_parallel_size > 1:
        yield Problem(
            "`sequence_parallel_size` is {size}, which cuts samples into pieces that are scored apart: token "
            "selection needs whole samples on every device. Set it to 1 and use data parallelism.",
            size=template.sequence_parallel_size,
        )
    if not template.loss_scale.is_binary_loss_scale:
        yield Problem(
            "`loss_scale` weighs tokens by rules of its own: set it to 'default', 'last_round' or 'all', which choose "
            "what has labels."
        )
    if selector is not None and selector.config.has_data_weights:
        yield Problem("{weights} and {weights_file} are not read under ms-swift: unset them.")


def unsupported_run(args: Any, template: Any, selector: TokenSelector | None) -> Iterator[Problem]:
    """The same of all that a command line says, without a model; `args` are `SftArguments`."""
    yield from unsupported(args.training_args)
    yield from unsupported_arguments(args, template, selector)
    if args.task_type != "causal_lm":
        yield Problem("`task_type` is {value!r}: token selection trains 'causal_lm'.", value=args.task_type)
    if selector is None:
        return
    sharded = sharded_by(args.training_args)
    yield from unsupported_sharding(requested_fsdp_version(args.training_args))
    yield from unsupported_recording(
        selector, has_adapter=args.tuner_type != "full", streams=bool(args.streaming), sharded=sharded
    )
    yield from unreadable_attention(selector, args.model_dir)
