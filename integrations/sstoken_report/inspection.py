"""Which tokens would train, before a training or at one of its checkpoints: what `sstoken inspect` shows, once a
framework has made the trainer."""

from __future__ import annotations

import bisect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sstoken_plugins import Refused, SSTokenConfig, TokenSelector

if TYPE_CHECKING:
    from .table import Report

ADAPTER_FILE, STATE_FILE, TRAINER_FILE = "adapter_config.json", "sstoken.json", "trainer_state.json"


@dataclass
class InspectArguments:
    """What `sstoken inspect` takes in addition to the flags of `sstoken sft`, or to an Axolotl YAML and its overrides.
    Short for the former: `--model`, `--data` (also a file), `--split`, and the options of ssToken without their
    prefix: `--rho`, `--gamma`, `--history_adapter`, ..."""

    n_samples: int = field(default=50, metadata={"aliases": ["-n"], "help": "How many samples to score."})
    adapter: str | None = field(
        default=None, metadata={"help": "Folder of a trained adapter, such as a checkpoint; without: before training."}
    )
    out: str = field(default=".", metadata={"help": "Folder for sstoken-inspect.html, .parquet and .json."})
    show: int = field(default=3, metadata={"help": "How many samples to print."})


def present(trainer: Any, own: InspectArguments, asked_for: SSTokenConfig, step: int) -> None:
    """Scores the samples of a trainer with token selection, prints them, and writes the page and the tables.

    Args:
        asked_for: the options as the user gave them, which the page shows.
        step: how many steps the model has been trained.

    Raises:
        Refused: if there is nothing to score.
        OSError: if something can't be written.
    """
    from rich.console import Console

    from . import terminal
    from .folder import write, write_text
    from .page import render

    out = Path(own.out)
    out.mkdir(parents=True, exist_ok=True)
    report = look_at(trainer, own.n_samples, own.adapter, asked_for, step)
    console = Console(highlight=False)
    terminal.show(console, report, own.show)
    for note in report.about["notes"]:
        console.print(f"\n[bold]Note[/bold]  {note}")
    if own.adapter is None:
        console.print("\nTo look at a trained model, add --adapter and the folder of a checkpoint.")
    page = out / "sstoken-inspect.html"
    write_text(page, render(report))
    write(page.with_suffix(".parquet"), report.write_parquet)
    write(page.with_suffix(".json"), report.write_json)
    console.print(f"\n{page}  and the same as .parquet and .json", soft_wrap=True, markup=False)


def look_at(trainer: Any, number: int, adapter: str | None, asked_for: SSTokenConfig, step: int) -> Report:
    """What the trainer would select of `number` samples now.

    Args:
        adapter: the trained adapter that the model has, which the report names.

    Raises:
        Refused: if there is nothing to score.
    """
    from .samples import Samples
    from .scoring import score

    samples = Samples.of_training(trainer, trainer.get_train_dataloader(), number)
    if not len(samples):
        raise Refused("None of the samples has a response token: nothing would be learned from them.")
    report = score(trainer, trainer.token_selector, samples, step)
    report.about.update(config=asked_for.to_dict(), summary=asked_for.summary())
    report.about["model"] = adapter or report.about["model"]
    return report


def saved_config(folder: Path) -> dict[str, Any]:
    """The options of the selection that a checkpoint was trained with; none if it is no checkpoint."""
    state = folder / STATE_FILE
    config: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))["config"] if state.is_file() else {}
    return config


def resume(selector: TokenSelector, folder: Path) -> int:
    """Gives the history what the checkpoint knows of it; returns the checkpoint's step.

    An adapter that does not say how long it was trained counts as trained beyond any warm-up.
    """
    from sstoken_transformers.state import TENSORS_FILE, load_state

    if (folder / TENSORS_FILE).is_file() and saved_config(folder)["history"] == selector.config.history:
        load_state(selector, folder)
    if (folder / TRAINER_FILE).is_file():
        return int(json.loads((folder / TRAINER_FILE).read_text(encoding="utf-8"))["global_step"])
    return _past_warm_up(selector) if (folder / ADAPTER_FILE).is_file() else 0


def _past_warm_up(selector: TokenSelector) -> int:
    """The first step at which the method reads as many signals as it ever does."""

    def n_signals(step: int) -> int:
        return len(selector.method.signals(selector.progress(step)))

    latest = 1 << 20
    return bisect.bisect_left(range(latest), n_signals(latest), key=n_signals)
