"""`SFTTrainer` with token selection."""

from __future__ import annotations

import inspect
import logging
import shutil
import textwrap
from typing import Any

from trl import SFTTrainer

from sstoken_plugins import SSTokenConfig, TokenSelector
from sstoken_plugins.data import DataWeights
from sstoken_plugins.errors import refuse, refused
from sstoken_transformers import SSTokenTrainerMixin, look_at_prompts
from sstoken_transformers.unsupported import needs_framework_loss
from sstoken_transformers.weights import data_weights

from .compat import COMPUTES_LOSS_IN_CHUNKS, preparation
from .config import SSTokenSFTConfig, own_names
from .data import hint
from .names import own_name
from .unsupported import needs_framework_loss_under_trl, unsupported_arguments

logger = logging.getLogger(__name__)


class SSTokenSFTTrainer(SSTokenTrainerMixin, SFTTrainer):
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
        Refused: a ValueError that names every such option, its value and how to fix it.
    """

    _weighs = False

    def __init__(self, *positional: Any, **named: Any) -> None:
        arguments = inspect.signature(SFTTrainer.__init__).bind(self, *positional, **named).arguments
        args = arguments.get("args")
        if not isinstance(args, SSTokenSFTConfig) or not args.sstoken:
            super().__init__(*positional, **named)
            return
        with own_names():
            selector = TokenSelector(args.token_selection())
            refuse(unsupported_arguments(arguments, selector))
        if COMPUTES_LOSS_IN_CHUNKS and needs_framework_loss(args, arguments.get("compute_loss_func")):
            args.loss_type = "nll"  # before 1.16, the only one under which TRL can compute such a loss
        self._weighs = selector.config.has_data_weights
        super().__init__(*positional, **named)
        with own_names():
            if self._weighs:
                selector.data_weights = self._data_weights(selector.config)
            if "attention" in selector.needs:
                advice = hint(arguments.get("train_dataset"), args) if not arguments.get("formatting_func") else ""
                look_at_prompts(self.train_dataset, selector, own_name, advice)
            if args.packing and args.packing_strategy == "wrapped":
                logger.warning(
                    "`packing_strategy` is 'wrapped', which forgets where documents begin: tokens are selected among "
                    "those of each packed row. Set it to 'bfd' to select among those of each document."
                )
            self.enable_token_selection(selector)
        self.accelerator.print(f"ssToken is on: {selector.summary}")
        if outlook := selector.outlook:
            self.accelerator.print(textwrap.fill(outlook.text(own_name), shutil.get_terminal_size().columns))

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        call = preparation(self, dataset, *args, **kwargs)
        prepared = super()._prepare_dataset(**call)
        if self._weighs and call["dataset_name"] == "train":
            if not hasattr(dataset, "__len__"):
                raise refused("The data are a stream, whose weights cannot be read before training: load them whole.")
            # Packed rows no longer are the user's: the same preparation without packing keeps one for one.
            whole = prepared if not call["packing"] else super()._prepare_dataset(**{**call, "packing": False})
            self._raw_and_tokenised = dataset, whole
        return prepared

    def _data_weights(self, config: SSTokenConfig) -> DataWeights:
        raw, tokenised = self.__dict__.pop("_raw_and_tokenised")
        batches = (self.data_collator([row]) for row in tokenised)
        return data_weights(config, raw, batches, len(raw), self.args.max_length)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        with own_names():
            return super().train(*args, **kwargs)

    def needs_framework_loss(self) -> str | None:
        return needs_framework_loss_under_trl(self.args) or super().needs_framework_loss()
