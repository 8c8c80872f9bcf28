"""Fills the store of a recorded history from a trainer's own batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tqdm.auto import tqdm

from sstoken_plugins import TokenSelector
from sstoken_plugins.data import IGNORE_INDEX
from sstoken_plugins.errors import refuse
from sstoken_plugins.model.adapters import has_adapter
from sstoken_plugins.run.recording import Recorder
from sstoken_plugins.store import stored_bytes

from .compat import as_deepspeed_begins, prepare_inputs
from .data import LOOKED_AT
from .unsupported import sharded_by, unsupported_recording


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
    refuse(
        unsupported_recording(
            selector,
            has_adapter=has_adapter(trainer.model),
            streams=not hasattr(trainer.train_dataset, "__len__"),
            sharded=sharded_by(trainer.args),
        )
    )
    history.refresh()
    _tell_size(trainer, recorder)
    new = 0
    keep_last, trainer.args.dataloader_drop_last = trainer.args.dataloader_drop_last, False
    was_training = trainer.model.training
    trainer.model.train()
    as_deepspeed_begins(trainer)
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


def _tell_size(trainer: Any, recorder: Recorder) -> None:
    """How much room the whole recording takes, judged by some of the data; says nothing where they have no labels."""
    dataset, store = trainer.train_dataset, recorder.history.store
    if not len(dataset) or "labels" not in (getattr(dataset, "column_names", None) or ()):
        return
    some = range(0, len(dataset), -(-len(dataset) // LOOKED_AT))
    n_response = sum(
        sum(label != IGNORE_INDEX for label in row["labels"]) for row in dataset.select_columns("labels").select(some)
    )
    share = len(dataset) / len(some)
    size = stored_bytes(len(dataset), round(share * n_response)) * recorder.copies
    trainer.accelerator.print(
        f"The recording takes about {size / 1e6:.1f} MB on disk, in {store.folder}"
        + (f" ({len(store)} samples are there already)" if store.exists and len(store) else "")
    )
