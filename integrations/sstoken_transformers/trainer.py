"""Token selection in front of a trainer's own behaviour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from sstoken_plugins import TokenSelector, TrainingRun, plugins
from sstoken_plugins.forward import OWN_ENTRIES
from sstoken_plugins.refusal import refuse

from .checkpoints import sound_checkpoint
from .loader import CollatorWithLookup
from .outputs import SelectingModel
from .recording import is_recording, record
from .state import load_state, save_state
from .tokenizer import fingerprint
from .unsupported import needs_framework_loss, refuse_unsupported, unsupported_by_fsdp


class SSTokenTrainerMixin:
    """Goes in front of a `transformers.Trainer` class; without `enable_token_selection` it changes nothing.

        class MyTrainer(SSTokenTrainerMixin, Trainer): ...

        trainer = MyTrainer(model=peft_model, ...)
        trainer.enable_token_selection(TokenSelector(SSTokenConfig()))
        trainer.train()

    The loss is `-(weights * log_probs).sum() / kept tokens of the whole optimizer step`, over all micro-batches and,
    with `average_tokens_across_devices` (the default), all processes. Evaluation is the trainer's own. Where only the
    trainer can compute its loss, it does so over the labels of the kept tokens.
    """

    token_selector: TokenSelector | None = None

    def enable_token_selection(self: Any, selector: TokenSelector) -> None:
        """Switches selection on, before `train()`.

        Raises:
            ValueError: if the trainer's options or its model cannot be combined with it.
        """
        refuse_unsupported(self.args)
        if self.is_fsdp_enabled:
            refuse(unsupported_by_fsdp(selector))
        run = TrainingRun(
            precision=self.accelerator.mixed_precision,
            tokenizer=fingerprint(self.processing_class),
            gather=self._gather_objects,
        )
        if reason := self.needs_framework_loss():
            selector.leave_loss_to_framework(reason)
        selector.attach(self.model, run)
        self.token_selector = selector
        # The loss divides by the whole step's tokens, so the trainer must not divide by accumulation steps once more.
        self.model_accepts_loss_kwargs = True
        self.add_callback(_StepEnd(selector))
        plugins.plugin_manager().hook.watch(trainer=self, selector=selector)

    def needs_framework_loss(self: Any) -> str | None:
        """Why the loss has to be the trainer's own, over the labels of the kept tokens; None if it need not be."""
        return needs_framework_loss(self.args, self.compute_loss_func)

    def train(self: Any, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        if self.token_selector is not None:
            resume_from_checkpoint = sound_checkpoint(resume_from_checkpoint, Path(self.args.output_dir))
            if self.token_selector.config.history_record and is_recording(self.token_selector):
                self.record_history()
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def record_history(self: Any) -> int:
        """Records what the store of history 'recorded' lacks of the training data; `train()` does it if
        `history_record` is set.

        Returns:
            How many samples were new, over all processes.

        Raises:
            ValueError: if the history is another, or the data are a stream.
            OSError: if the store can't be written.
        """
        return record(self, self.token_selector, super().get_train_dataloader)

    def get_train_dataloader(self: Any) -> Any:
        if self.token_selector is None or _hands_out_slices(self):
            return super().get_train_dataloader()
        collator = self.data_collator
        self.data_collator = CollatorWithLookup(collator, self.token_selector.lookup)  # evaluation keeps the plain one
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = collator

    def get_batch_samples(self: Any, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        batches, num_items_in_batch = super().get_batch_samples(*args, **kwargs)
        if self.token_selector is None or not batches:
            return batches, num_items_in_batch
        total = torch.stack([self.token_selector.denominator(batch) for batch in batches]).sum()
        total = total.float().to(self.args.device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            total = self.accelerator.gather(total).sum()
        return batches, total

    def compute_loss(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        selector, step = self.token_selector, self.state.global_step
        if selector is not None and model.training:
            if selector.uses_framework_loss(model, inputs):
                labels, _ = selector.filtered_labels(model, inputs, step)
                inputs = {name: value for name, value in inputs.items() if not name.startswith(OWN_ENTRIES)}
                inputs["labels"] = labels
            else:
                model = SelectingModel(model, selector, step, self._aux_loss_scale())
        return super().compute_loss(model, inputs, *args, **kwargs)

    def log(self: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        # Only this call is made by all processes together, once per logging step of training.
        if self.token_selector is not None and "loss" in logs:
            logs.update(self.token_selector.metrics.drain(lambda sums: self.accelerator.reduce(sums, "sum")))
        super().log(logs, *args, **kwargs)

    def _save_rng_state(self: Any, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self.token_selector is not None and self.args.should_save:
            save_state(self.token_selector, Path(output_dir))

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        if self.token_selector is None:
            super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)
            return
        load_state(self.token_selector, Path(resume_from_checkpoint))
        dtypes = {name: p.dtype for name, p in self.model.named_parameters() if p.requires_grad}
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)
        # PEFT loads an adapter in float32, also where the run that saved it trained it in bfloat16 (QLoRA under TRL).
        for name, parameter in self.model.named_parameters():
            if name in dtypes:
                parameter.data = parameter.data.to(dtypes[name])

    def _gather_objects(self: Any, mine: Any) -> list[Any]:
        if self.args.world_size == 1:
            return [mine]
        everyones: list[Any] = [None] * self.args.world_size
        torch.distributed.all_gather_object(everyones, mine)
        return everyones

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


class _StepEnd(TrainerCallback):
    def __init__(self, selector: TokenSelector) -> None:
        self._selector = selector

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._selector.step_end(state.global_step, state.epoch)


def with_token_selection(trainer_class: type[Trainer]) -> type[Trainer]:
    """The same trainer class with `SSTokenTrainerMixin` in front."""
    if issubclass(trainer_class, SSTokenTrainerMixin):
        return trainer_class
    return type(f"SSToken{trainer_class.__name__}", (SSTokenTrainerMixin, trainer_class), {})
