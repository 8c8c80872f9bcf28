"""`SFTTrainer` with token selection."""

from __future__ import annotations

import inspect
from typing import Any

from trl import SFTTrainer

from sstoken_plugins import TokenSelector
from sstoken_plugins.histories.base import WITHOUT_ADAPTER
from sstoken_transformers import SSTokenTrainerMixin, needs_framework_loss, refuse_unsupported, require_prompts

from .config import SSTokenSFTConfig, own_names
from .data import WAY_OUT, refuse_images, require_prompts_in_raw


class SSTokenSFTTrainer(SSTokenTrainerMixin, SFTTrainer):  # type: ignore[misc]
    """`SFTTrainer` that trains on the tokens that matter when `args.sstoken` is True, and is `SFTTrainer` otherwise.

        trainer = SSTokenSFTTrainer(
            model="Qwen/Qwen3-8B",
            args=SSTokenSFTConfig(output_dir="out", sstoken=True),
            train_dataset=dataset,
            peft_config=LoraConfig(target_modules="all-linear"),
        )
        trainer.train()

    Takes the arguments of `SFTTrainer`. What cannot be combined with selection is refused before the model is loaded.

    Raises:
        ValueError: naming the option, its value and the way out.
    """

    def __init__(self, *positional: Any, **named: Any) -> None:
        arguments = inspect.signature(SFTTrainer.__init__).bind(self, *positional, **named).arguments
        args = arguments.get("args")
        if not isinstance(args, SSTokenSFTConfig) or not args.sstoken:
            super().__init__(*positional, **named)
            return
        with own_names():
            selector = TokenSelector(args.token_selection())
            _refuse_before_loading(args, arguments, selector)
        super().__init__(*positional, **named)
        if "attention" in selector.needs:
            require_prompts(self.train_dataset, WAY_OUT)
        with own_names():
            self.enable_token_selection(selector)
        self.accelerator.print(f"ssToken is on: {selector.config.summary()}")

    def train(self, *args: Any, **kwargs: Any) -> Any:
        with own_names():
            return super().train(*args, **kwargs)


def _refuse_before_loading(args: SSTokenSFTConfig, arguments: dict[str, Any], selector: TokenSelector) -> None:
    refuse_unsupported(args)
    if reason := needs_framework_loss(args, arguments.get("compute_loss_func")) or _needs_framework_loss(args):
        selector.leave_loss_to_framework(reason)
    if args.packing and args.packing_strategy == "wrapped":
        raise ValueError(
            "`packing_strategy` is 'wrapped', which cuts documents anywhere and forgets where they begin: token "
            "selection needs whole documents. Set it to 'bfd'."
        )
    model, peft_config = arguments.get("model"), arguments.get("peft_config")
    without_adapter = peft_config is None and not hasattr(model, "peft_config")
    if without_adapter and selector.history is not None and selector.history.requires_adapter:
        raise ValueError(
            f"`history` is {selector.config.history!r} but there is no adapter (`peft_config` is None; `use_peft` on "
            f"the command line): {WITHOUT_ADAPTER}"
        )
    dataset = arguments.get("train_dataset")
    sample = next(iter(dataset), None) if dataset is not None else None
    if sample is not None:
        refuse_images(sample)
        if "attention" in selector.needs and arguments.get("formatting_func") is None:
            require_prompts_in_raw(sample, args)


def _needs_framework_loss(args: SSTokenSFTConfig) -> str | None:
    if args.loss_type not in ("nll", "chunked_nll"):
        return f"`loss_type` is {args.loss_type!r}"
    if args.use_liger_kernel and SSTokenSFTConfig.loss_type is None:
        # Before 1.16, TRL takes its metrics from Liger's fused loss.
        return "`use_liger_kernel` is True"
    return None
