"""What would be selected of the samples now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sstoken_plugins import Controls, Selection, TokenSelector, __version__

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

    def look(batch: Mapping[str, Any]) -> Selection:
        inputs = trainer._prepare_inputs(batch)
        with trainer.accelerator.autocast():
            return selector.inspect(model, inputs, step)

    was_training = model.training
    model.train()
    try:
        quiet = trainer.args.disable_tqdm or not trainer.accelerator.is_local_main_process
        return Scoring(selector, step).report(samples, look, getattr(trainer.model.config, "_name_or_path", ""), quiet)
    finally:
        model.train(was_training)


class Scoring:
    """Makes a report of what `TokenSelector.inspect` says of samples at one step."""

    def __init__(self, selector: TokenSelector, step: int) -> None:
        self._selector, self._step = selector, step
        self._asking = Asking(selector, step)
        self._controls = self._asking.controls()
        self._shown = Columns(selector, _read_by(self._controls))

    def report(
        self, samples: Samples, look: Callable[[Mapping[str, Any]], Selection], model: str, quiet: bool
    ) -> Report:
        """Looks at every batch.

        Args:
            model: its name, for the reader.
            quiet: whether there is no progress bar.
        """
        about: dict[str, Any] = {}
        scored: list[dict[str, Tensor]] = []
        progress = f"Scoring {len(samples)} samples for the report"
        for batch in tqdm(samples.batches, desc=progress, unit="batch", leave=False, disable=quiet):
            with torch.no_grad():
                selection = look(batch)
                of_batch = self._shown.of(selection)
            about = {name: described(column) for name, (column, _) in of_batch.items()}
            values = {name: values.float() for name, (_, values) in of_batch.items()}
            values |= {"score": self._asking.score(selection), "eligible": self._asking.eligible(selection)}
            scored.append({**values, "weight": selection.weights})
        columns = _arranged(samples, scored)
        about = {name: column for name, column in about.items() if name in columns}
        controls = self._checked_controls(columns)
        columns["rank"] = select(columns, controls or {}).rank.astype(np.int32)
        asking, config = self._asking, self._selector.config
        return Report(
            columns,
            {
                "version": __version__,
                "step": self._step,
                "config": config.to_dict(),
                "summary": config.summary(),
                "columns": about,
                "controls": controls,
                "model": model,
                "notes": [*self._unchanged(columns, about, controls), *asking.notes(), *asking.mistakes],
            },
        )

    def _checked_controls(self, columns: dict[str, np.ndarray]) -> dict[str, Any] | None:
        """The method's controls, if they lead to its own selection."""
        try:
            controls = declared(self._controls, self._selector.config, columns)
        except Exception as error:  # an option that does not exist, and so on
            self._asking.failed("controls", f"{type(error).__name__}: {error}")
            return None
        if controls is None:
            return None
        kept = columns["response"] & (columns["weight"] != 0)
        if not np.array_equal(select(columns, controls).kept, kept):
            self._asking.failed("controls", "what follows from them is another selection than that of `weights`.")
            return None
        return controls

    def _unchanged(
        self, columns: dict[str, np.ndarray], about: dict[str, Any], controls: dict[str, Any] | None
    ) -> list[str]:
        """What to say where the model is still its own history."""
        notes = []
        blend = (controls or {}).get("blend")
        for name in self._shown.zero_without_history():
            if name not in about or not columns["response"].any() or columns[name][columns["response"]].any():
                continue
            note = f"{about[name]['label']} is 0 everywhere: the model is still the same as its history, as before "
            note += "the first step."
            if blend and blend["scaled"] == name and blend["value"] < 1:
                note += f" The selection follows the {about[blend['plain']]['label']} alone."
            notes.append(note)
        return notes


def _read_by(controls: Controls | None) -> list[str]:
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
