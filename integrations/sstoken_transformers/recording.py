"""Fills the store of history 'recorded' from a trainer's own batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tqdm.auto import tqdm

from sstoken_plugins import TokenSelector
from sstoken_plugins.histories.recorded import RecordedHistory


def is_recording(selector: TokenSelector) -> bool:
    return isinstance(selector.history, RecordedHistory)


def record(trainer: Any, selector: TokenSelector, make_loader: Callable[[], Any]) -> int:
    """Scores what the store lacks, with a progress bar; every process does its share. Goes on where it stopped.

    The batches are those of the first epoch, so whatever collates, packs and cuts the samples for training does it
    here. The training that follows draws the same random numbers as without.
    """
    history = selector.history
    if not isinstance(history, RecordedHistory):
        raise ValueError(
            f"Nothing to record: these options ({selector.config.summary()}) read no recorded history. Set `history` "
            "to 'recorded', `strategy` to one that reads it, and `gamma` above 0."
        )
    if not hasattr(trainer.train_dataset, "__len__"):
        raise ValueError(
            "The training data are a stream, which can't be read once more before training: set `history` to 'base' "
            "or 'last_visit', or load the data without streaming."
        )
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ValueError(
            "A history can't be recorded under FSDP or DeepSpeed: run `sstoken record` on one GPU or with DDP first, "
            "then train with the `history_store` that it made."
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
                desc=f"Recording the history into {history.store.folder}",
                unit="batch",
                disable=trainer.args.disable_tqdm or not trainer.accelerator.is_local_main_process,
            )
            for batch in progress:
                inputs = trainer._prepare_inputs(batch)
                with trainer.accelerator.autocast():
                    new += selector.record(trainer.model, inputs)
                progress.set_postfix(new=new, refresh=False)
    finally:
        history.finish()
        trainer.args.dataloader_drop_last = keep_last
        trainer.model.train(was_training)
    total = int(trainer.accelerator.reduce(torch.tensor(new, device=trainer.args.device), "sum"))
    history.refresh()
    trainer.accelerator.print(
        f"History recorded: {total} new samples, {len(history.store)} in all, in {history.store.folder}"
    )
    return total
