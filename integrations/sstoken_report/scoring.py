"""What would be selected of the samples now."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sstoken_plugins import Controls, TokenSelector, __version__

from .asking import Asking
from .columns import Columns, described
from .controls import declared, select
from .samples import Samples
from .table import Report


def score(trainer: Any, selector: TokenSelector, samples: Samples, step: int) -> Report:
    """Scores the samples exactly as a training step would, and leaves no trace in the training.

    All processes have to call it together.
    """
    model = trainer.model_wrapped if trainer.is_fsdp_enabled else trainer.model
    asking = Asking(selector, step)
    controls = asking.controls()
    shown = Columns(selector, _names(controls))
    about: dict[str, Any] = {}
    scored: list[dict[str, Tensor]] = []
    was_training = model.training
    model.train()
    try:
        for batch in tqdm(
            samples.batches,
            desc=f"Scoring {len(samples)} samples for the report",
            unit="batch",
            leave=False,
            disable=trainer.args.disable_tqdm or not trainer.accelerator.is_local_main_process,
        ):
            inputs = trainer._prepare_inputs(batch)
            with trainer.accelerator.autocast(), torch.no_grad():
                selection = selector.inspect(model, inputs, step)
                of_batch = shown.of(selection)
            about = {name: described(column) for name, (column, _) in of_batch.items()}
            values = {name: values.float() for name, (_, values) in of_batch.items()}
            values |= {"score": asking.score(selection), "eligible": asking.eligible(selection)}
            scored.append({**values, "weight": selection.weights})
    finally:
        model.train(was_training)
    columns = _arranged(samples, scored)
    about = {name: column for name, column in about.items() if name in columns}
    return _complete(trainer, selector, step, columns, about, controls, asking, shown)


def _names(controls: Controls | None) -> list[str]:
    """The columns that moving the options reads."""
    if controls is None:
        return []
    return [*(controls.blend or ())[1:], *(controls.threshold or ())[1:]]


def _arranged(samples: Samples, scored: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    """The columns of a report, without the ranks; what a batch lacks is left out."""
    columns = dict(samples.columns)
    for name in scored[0]:
        if not all(name in batch for batch in scored):
            continue
        values = samples.arranged([batch[name] for batch in scored])
        if name == "eligible":
            columns[name] = columns["response"] & values
        else:
            columns[name] = np.where(columns["response"], values, np.float32("nan"))
    return columns


def _complete(
    trainer: Any,
    selector: TokenSelector,
    step: int,
    columns: dict[str, np.ndarray],
    about: dict[str, Any],
    controls: Controls | None,
    asking: Asking,
    shown: Columns,
) -> Report:
    movable = asking._ask("controls", lambda: declared(controls, selector.config, columns), None)
    selected = select(columns, movable or {})
    kept = columns["response"] & (columns["weight"] != 0)
    if movable is not None and not np.array_equal(selected.kept, kept):
        asking.failed("controls", "what follows from them is another selection than that of `weights`.")
        movable, selected = None, select(columns, {})
    columns["rank"] = selected.rank.astype(np.int32)
    return Report(
        columns,
        {
            "version": __version__,
            "step": step,
            "config": selector.config.to_dict(),
            "summary": selector.config.summary(),
            "columns": about,
            "controls": movable,
            "model": getattr(trainer.model.config, "_name_or_path", ""),
            "notes": [*_unchanged(columns, about, movable, shown), *asking.notes(), *asking.mistakes],
        },
    )


def _unchanged(
    columns: dict[str, np.ndarray], about: dict[str, Any], controls: dict[str, Any] | None, shown: Columns
) -> list[str]:
    """What to say where the model is still its own history."""
    notes = []
    blend = (controls or {}).get("blend")
    for name in shown.zero_without_history():
        if name not in about or not columns["response"].any() or columns[name][columns["response"]].any():
            continue
        note = f"{about[name]['label']} is 0 everywhere: the model is still the same as its history, as before the "
        note += "first step."
        if blend and blend["scaled"] == name and blend["value"] < 1:
            note += f" The selection follows the {about[blend['plain']]['label']} alone."
        notes.append(note)
    return notes
