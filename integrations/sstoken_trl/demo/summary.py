"""What a newcomer sees at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sstoken_report.terminal import GREY, marked

from .conversations import Sample

EXAMPLES = 4


@dataclass(frozen=True)
class Results:
    """Held-out losses in nats per token, duration in seconds, folder of the adapter."""

    before: float
    after: float
    seconds: float
    output_dir: Path


def print_summary(console: Console, trainer: Any, train: list[Sample], results: Results) -> None:
    """Losses, signals, a few samples with their tokens, and the line that enables the same elsewhere."""
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    cut = "" if len(logs) == trainer.state.max_steps else f" of {trainer.state.max_steps}, cut short by the time limit"
    console.print(f"\nTrained {len(logs)} steps{cut}, in {results.seconds / 60:.1f} minutes.\n")
    console.print(_table(logs, results))
    console.print(
        "\nrel: how much more likely the token has become since the base model, in nats.\n"
        "attention: the share of the token's attention that goes to the prompt.",
        style="dim",
    )
    console.print()
    _print_examples(console, trainer, train)
    console.print("\n[bold]Saved[/bold]  the adapter, in")
    console.print(f"  {results.output_dir.resolve()}", markup=False, soft_wrap=True)
    console.print("\n[bold]The same in your own run is one line[/bold]")
    console.print("  TRL      [bold]sstoken sft --sstoken[/bold] ...   with the flags and YAML of `trl sft`")
    console.print("  Axolotl  [bold]plugins: \\[sstoken_axolotl.SSTokenPlugin][/bold]   in your YAML")


def _table(logs: list[dict[str, float]], results: Results) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    table.add_column("start", justify="right")
    table.add_column("end", justify="right")
    table.add_row("loss on held-out replies", f"{results.before:.2f}", f"{results.after:.2f}", style="bold")
    some = max(1, len(logs) // 10)  # a single micro-batch's value says little
    for label, name, form in (
        ("training loss (of the kept tokens)", "loss", "{:.2f}"),
        ("reply tokens kept", "sstoken/keep_rate", "{:.0%}"),
        ("rel of kept tokens", "sstoken/rel_kept", "{:+.2f}"),
        ("rel of dropped tokens", "sstoken/rel_dropped", "{:+.2f}"),
        ("attention of kept tokens", "sstoken/attention_kept", "{:.2f}"),
        ("attention of dropped tokens", "sstoken/attention_dropped", "{:.2f}"),
    ):
        values = [entry[name] for entry in logs if name in entry]
        if values:
            start, end = (sum(part) / len(part) for part in (values[:some], values[-some:]))
            table.add_row(label, form.format(start), form.format(end))
    return table


def _print_examples(console: Console, trainer: Any, train: list[Sample]) -> None:
    coloured = console.color_system is not None and not console.no_color
    words = [len(sample["completion"][0]["content"].split()) for sample in train]
    shown = sorted(range(len(train)), key=lambda i: not 9 <= words[i] <= 24)[:EXAMPLES]
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in shown]))
    trainer.model.train()
    with torch.no_grad():
        _, selection = trainer.token_selector.forward(trainer.model, batch, trainer.state.global_step)

    legend = Text("Which tokens of a reply train", style="bold")
    legend.append("   ").append_text(marked("trained on", True, coloured))
    legend.append("  ").append_text(marked("left out", False, coloured))
    legend.append("  question", style=GREY)
    console.print(legend)
    for row, i in enumerate(shown):
        reply = selection.documents.response[row]
        ids, kept = batch["input_ids"][row][reply].tolist(), selection.kept[row][reply].tolist()
        console.print(Padding(Text(train[i]["prompt"][-1]["content"], style=GREY), (1, 0, 0, 2), expand=False))
        text = Text()
        for piece, is_kept in _runs(trainer.processing_class, ids, kept):
            text.append_text(marked(piece, is_kept, coloured))
        console.print(Padding(text, (0, 0, 0, 4), expand=False))


def _runs(tokenizer: Any, ids: list[int], kept: list[bool]) -> Iterator[tuple[str, bool]]:
    """Neighbouring tokens of the same status as one piece of text; special tokens and outer white space left out."""
    special = set(tokenizer.all_special_ids)
    pairs = [(token, keep) for token, keep in zip(ids, kept, strict=True) if token not in special]
    run, status = "", None
    pending: list[int] = []
    for token, keep in pairs:
        pending.append(token)
        piece = tokenizer.decode(pending)
        if piece.endswith("�") and len(pending) < 4:
            continue  # a character of several tokens is shown with the status of its last one
        pending = []
        if status is not None and keep != status:
            yield run, status
            run = ""
        run, status = run + piece.replace("\n", " "), keep
    if status is not None and run.strip():
        yield run.rstrip(), status
