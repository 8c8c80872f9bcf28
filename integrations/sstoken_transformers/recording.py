"""Fills the store of a recorded history from a trainer's own batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tqdm.auto import tqdm

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import refused

from .compat import prepare_inputs


def record(
    trainer: Any, selector: TokenSelector, make_loader: Callable[[], Any], reference_store: str | None = None
) -> int:
    """Scores what the store lacks, with a progress bar; every process does its share. If interrupted, it resumes.

    With `reference_store`, the trainer's model is recorded there as a reference, and else as the history.

    The batches are those of the first epoch, so whatever collates, packs and cuts the samples for training does it
    here. The training that follows draws the same random numbers as without.

    Raises:
        Refused: if the options read no recorded history, or the data or the processes do not allow it.
    """
    recorder = selector.recorder() if reference_store is None else selector.reference_recorder(reference_store)
    history, what = recorder.history, "history" if reference_store is None else "reference"
    if not hasattr(trainer.train_dataset, "__len__"):
        raise refused(
            "The training data are a stream, which cannot be read once more before training: load the data without "
            "streaming" + (", or set {history} to 'base' or 'last_visit'." if reference_store is None else ".")
        )
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise refused(
            f"A {what} cannot be recorded under FSDP or DeepSpeed: run `sstoken record` on one GPU or with DDP first, "
            f"then train with the {{{what}_store}} that it made."
        )
    history.refresh()
    new = 0
    keep_last, trainer.args.dataloader_drop_last = trainer.args.dataloader_drop_last, False
    was_training = trainer.model.training
    trainer.model.train()
    try:
        with torch.random.fork_rng():
            progress = tqdm(
                make_loader(),
                desc=f"Recording the {what} into {history.store.folder}",
                unit="batch",
                disable=trainer.args.disable_tqdm or not trainer.accelerator.is_local_main_process,
            )
            for batch in progress:
                inputs = prepare_inputs(trainer, batch)
                with trainer.accelerator.autocast():
                    new += selector.record(trainer.model, inputs, recorder)
                progress.set_postfix(new=new, refresh=False)
    finally:
        history.store.flush()
        trainer.args.dataloader_drop_last = keep_last
        trainer.model.train(was_training)
    total = int(trainer.accelerator.reduce(torch.tensor(new, device=trainer.args.device), "sum"))
    history.refresh()
    trainer.accelerator.print(
        f"{what.capitalize()} recorded: {total} new samples, {len(history.store)} in all, in {history.store.folder}"
    )
    return total
