"""Token selection in front of a trainer's own behaviour."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from sstoken_plugins import TokenSelector, TrainingRun, registry
from sstoken_plugins.data import OWN_ENTRIES
from sstoken_plugins.data.loading import Lookup
from sstoken_plugins.errors import refuse
from sstoken_plugins.guard import blame

from .checkpoints import refuse_another_adapter, refuse_to_drop_selection, sound_checkpoint
from .closing import add_to_card, closing
from .compat import fsdp_version, without_compile
from .contents import TRAINER_FILE, SSTokenCheckpoint
from .data import LOOKED_AT
from .loader import CollatorWithLookup
from .outputs import SelectingModel
from .recording import record
from .rows import problems_of_media, problems_of_tokens
from .state import STATE_FILE, load_state, save_state, saving
from .tokenizer import fingerprint
from .unsupported import (
    needs_framework_loss,
    refuse_unsupported,
    unsupported_parallelism,
    unsupported_sharding,
)

logger = logging.getLogger(__name__)

MEDIA_LOOKED_AT = 20
"""Rows in which pictures are decoded only to look for sound."""


if TYPE_CHECKING:
    _Trainer = Trainer
else:
    _Trainer = object


class SSTokenTrainerMixin(_Trainer):  # type: ignore[misc, valid-type]
    """Goes in front of a `transformers.Trainer` class; without `enable_token_selection` it changes nothing.

        class MyTrainer(SSTokenTrainerMixin, Trainer): ...

        trainer = MyTrainer(model=peft_model, ...)
        trainer.enable_token_selection(TokenSelector(SSTokenConfig()))
        trainer.train()

    The loss is `-(weights * log_probs).sum() / denominator`, with the method's denominator summed over the whole
    optimizer step: all micro-batches and, with `average_tokens_across_devices` (the default), all processes.
    Evaluation is the trainer's own. Where only the trainer can compute its loss, it does so over the labels of the
    kept tokens.
    """

    token_selector: TokenSelector | None = None
    token_places: dict[str, Path]
    """What else is written of the selection, such as reports, and where: the last line of a training says so."""

    def enable_token_selection(self: Any, selector: TokenSelector) -> None:
        """Switches selection on, before `train()`.

        Raises:
            Refused: if the trainer's options or its model cannot be combined with it.
        """
        refuse_unsupported(self.args)
        refuse(unsupported_parallelism(getattr(self.accelerator, "parallelism_config", None)))
        refuse(unsupported_sharding(fsdp_version(self)))
        run = TrainingRun(
            precision=self.accelerator.mixed_precision,
            tokenizer=fingerprint(self.processing_class),
            gather=self._gather_objects,
            reduce=lambda mine: self.accelerator.reduce(mine, "sum"),
            any_process=self._any_process,
            folder=Path(self.args.output_dir) if self.args.output_dir else None,
        )
        if reason := self.needs_framework_loss():
            selector.use_framework_loss(reason)
        selector.attach(self.model, run)
        if self.args.torch_compile:
            logger.warning(
                "`torch_compile` is on: the passes that select tokens run without it, since what they read inside the "
                "model changes from batch to batch and would be compiled again each time. Evaluation%s compiled.",
                " and the framework's own loss stay" if reason else " stays",
            )
        refuse(problems_of_tokens(self.train_dataset, selector.n_tokens, LOOKED_AT))  # the rest in the data loader
        refuse(problems_of_media(self.train_dataset, MEDIA_LOOKED_AT))
        self.token_selector, self.token_places = selector, {}
        # The loss divides by the whole step's tokens, so the trainer must not divide by accumulation steps once more.
        self.model_accepts_loss_kwargs = True
        self.add_callback(_Steps(selector))
        self.add_callback(SSTokenCheckpoint())
        with blame():
            registry.plugin_manager().hook.watch(trainer=self, selector=selector)

    def selecting_model(self: Any, model: Any, step: int) -> SelectingModel:
        """What the trainer's own `compute_loss` calls in place of the model."""
        return SelectingModel(model, self.token_selector, step, self._aux_loss_scale())

    def needs_framework_loss(self: Any) -> str | None:
        """Why the loss has to be the trainer's own, over the labels of the kept tokens; None if it need not be."""
        return needs_framework_loss(self.args, self.compute_loss_func)

    def train(self: Any, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        selector = self.token_selector
        if selector is not None:
            resume_from_checkpoint = sound_checkpoint(resume_from_checkpoint, Path(self.args.output_dir))
            if isinstance(resume_from_checkpoint, str):
                refuse_another_adapter(Path(resume_from_checkpoint), self.model)
                load_state(selector, Path(resume_from_checkpoint))
            if getattr(selector.history, "records", False):
                self.record_history()
            self._dtypes = {name: p.dtype for name, p in self.model.named_parameters() if p.requires_grad}
        elif resume_from_checkpoint:
            refuse_to_drop_selection(resume_from_checkpoint, Path(self.args.output_dir), STATE_FILE)
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        if selector is not None and self.args.output_dir:
            folder = Path(self.args.output_dir)
            if self.args.should_save and folder.is_dir():
                save_state(selector, folder, with_tensors=False)
                self.accelerator.print(closing(selector, folder, self.token_places))
        return result

    def create_model_card(self: Any, *args: Any, **kwargs: Any) -> None:
        super().create_model_card(*args, **kwargs)
        card = Path(self.args.output_dir or "", "README.md")
        if self.token_selector is not None and self.is_world_process_zero() and card.is_file():
            add_to_card(self.token_selector, card)

    def record_history(self: Any) -> int:
        """Records what the store of a recorded history lacks of the training data; `train()` does it if
        `history_record` is set.

        Returns:
            How many samples were new, over all processes.

        Raises:
            Refused: if the history is another, or the data are a stream.
            OSError: if the store cannot be written.
        """
        return record(self, self.token_selector, lambda: self._loader_with(self.token_selector.lookup_to_record))

    def record_reference(self: Any, folder: str) -> int:
        """Records the trainer's model, as it is, over the training data: another training can then use `folder` as
        its `reference_store`.

        Returns:
            How many samples were new, over all processes.

        Raises:
            Refused: if the folder holds something else, or the data are a stream.
            OSError: if the store cannot be written.
        """
        return record(
            self, self.token_selector, lambda: self._loader_with(self.token_selector.lookup_to_record), folder
        )

    def create_optimizer(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.token_selector is not None:
            # PEFT loads an adapter in float32, also where the run that saved it trained it in bfloat16 (QLoRA under
            # TRL). The optimizer's state takes its precision from the parameters, so this comes before it.
            for name, parameter in self.model.named_parameters():
                if name in getattr(self, "_dtypes", {}):
                    parameter.data = parameter.data.to(self._dtypes[name])
        return super().create_optimizer(*args, **kwargs)

    def get_train_dataloader(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.token_selector is None:
            return super().get_train_dataloader(*args, **kwargs)
        return self._loader_with(self.token_selector.lookup, *args, **kwargs)

    def _loader_with(self: Any, lookup: Lookup, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own, whose workers do the lookup; without where they cannot."""
        if _hands_out_slices(self):
            return super().get_train_dataloader(*args, **kwargs)
        collator = self.data_collator
        self.data_collator = CollatorWithLookup(collator, lookup)  # evaluation keeps the plain one
        try:
            return super().get_train_dataloader(*args, **kwargs)
        finally:
            self.data_collator = collator

    def get_batch_samples(self: Any, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        batches, num_items_in_batch = super().get_batch_samples(*args, **kwargs)
        if self.token_selector is None or not batches:
            return batches, num_items_in_batch
        step = self.state.global_step
        total = torch.stack([self.token_selector.denominator(batch, step) for batch in batches]).sum()
        total = total.float().to(self.args.device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            total = self.accelerator.gather(total).sum()
        return batches, total

    def compute_loss(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        selector, step = self.token_selector, self.state.global_step
        if selector is not None and model.training:
            eager = without_compile(model)
            if selector.uses_framework_loss(eager, inputs):
                labels, _ = selector.filtered_labels(eager, inputs, step)
                inputs = {name: value for name, value in inputs.items() if not name.startswith(OWN_ENTRIES)}
                inputs["labels"] = labels
            else:
                model = self.selecting_model(eager, step)
        return super().compute_loss(model, inputs, *args, **kwargs)

    def log(self: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        # Only this call is made by all processes together, once per logging step of training.
        if self.token_selector is not None and "loss" in logs:
            sums = self.token_selector.metrics.drain(
                lambda mine: self.accelerator.reduce(mine.to(self.args.device), "sum"), self._gather_objects
            )
            logs.update(sums)
        super().log(logs, *args, **kwargs)

    def save_model(self: Any, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if self.token_selector is None or not self.args.should_save:
            super().save_model(output_dir, _internal_call)
            return
        folder = Path(self.args.output_dir if output_dir is None else output_dir)
        is_checkpoint = folder.name.startswith(PREFIX_CHECKPOINT_DIR)
        if is_checkpoint:
            (folder / TRAINER_FILE).unlink(missing_ok=True)  # what is overwritten is no checkpoint any more
        super().save_model(output_dir, _internal_call)
        # This comes before `trainer_state.json`, the last file of a checkpoint.
        if is_checkpoint:
            finish_step(self)
        save_state(self.token_selector, folder, with_tensors=is_checkpoint and not self.args.save_only_model)
        for callback in self.callback_handler.callbacks if is_checkpoint else ():
            if isinstance(callback, SSTokenCheckpoint):
                callback.saving(folder, self.state, alone=self.args.world_size == 1)

    def _save_checkpoint(self: Any, *args: Any, **kwargs: Any) -> None:
        with saving(Path(self.args.output_dir)) if self.token_selector is not None else contextlib.nullcontext():
            super()._save_checkpoint(*args, **kwargs)

    def _gather_objects(self: Any, mine: Any) -> list[Any]:
        if self.args.world_size == 1:
            return [mine]
        everyones: list[Any] = [None] * self.args.world_size
        torch.distributed.all_gather_object(everyones, mine)
        return everyones

    def _any_process(self: Any, mine: bool) -> bool:
        if self.args.world_size == 1:
            return mine
        flag: Tensor = self.accelerator.reduce(torch.tensor(float(mine), device=self.args.device), "sum")
        return bool(flag > 0)

    def _aux_loss_scale(self: Any) -> float:
        """Weight of the auxiliary loss of mixture-of-experts models: a mean over micro-batches and processes."""
        config = self.model.config.get_text_config()
        if not getattr(config, "output_router_logits", False):
            return 0.0
        processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return getattr(config, "router_aux_loss_coef", 0.0) / self.current_gradient_accumulation_steps / processes


def _hands_out_slices(trainer: Any) -> bool:
    """Whether one process loads whole batches and cuts them for all: what lookups add can't be cut."""
    dispatches = trainer.accelerator.dispatch_batches
    if dispatches is None:
        dispatches = not hasattr(trainer.train_dataset, "__len__")
    return trainer.args.world_size > 1 and bool(dispatches)


class _Steps(TrainerCallback):
    """Tells the selection where each step begins and ends."""

    def __init__(self, selector: TokenSelector) -> None:
        self._selector = selector
        self._ended = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._ended = state.global_step
        self._selector.begin(state.max_steps or None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.finish(state)

    def finish(self, state: Any) -> None:
        """Ends the step that the state names, once."""
        if state.global_step > self._ended:
            self._ended = state.global_step
            self._selector.step_end(state.global_step, state.epoch)


def finish_step(trainer: Any) -> None:
    """Brings the selection to the step that a checkpoint names: callbacks that save may come before ours."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, _Steps):
            callback.finish(trainer.state)


def with_token_selection(trainer_class: type[Trainer]) -> type[Trainer]:
    """The same trainer class with `SSTokenTrainerMixin` in front."""
    if issubclass(trainer_class, SSTokenTrainerMixin):
        return trainer_class
    return type(f"SSToken{trainer_class.__name__}", (SSTokenTrainerMixin, trainer_class), {})
