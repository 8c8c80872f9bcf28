"""What a newcomer sees at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

EXAMPLES = 4


@dataclass
class Results:
    """Held-out losses in nats per token, duration in seconds, folder of the adapter."""

    before: float
    after: float
    seconds: float
    output_dir: Path


def print_summary(console: Console, trainer: Any, results: Results) -> None:
    """Losses, signals, a few samples with their tokens, and the line that enables the same elsewhere."""
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    ends = max(1, len(logs) // 10)

    def ends_of(name: str) -> tuple[float, float]:
        values = [entry[name] for entry in logs if name in entry]
        return sum(values[:ends]) / ends, sum(values[-ends:]) / ends

    table = Table(title="What happened", title_justify="left", show_edge=False)
    table.add_column("")
    table.add_column("first steps", justify="right")
    table.add_column("last steps", justify="right")
    rows = [("loss of the kept tokens", "loss", "{:.3f}"), ("tokens kept", "sstoken/keep_rate", "{:.0%}")]
    rows += [
        (f"{label} of {which} tokens", f"sstoken/{name}_{which}", form)
        for label, name, form in (
            ("excess loss (rel)", "rel", "{:+.3f}"),
            ("attention to the prompt", "attention", "{:.3f}"),
        )
        for which in ("kept", "dropped")
    ]
    for label, name, form in rows:
        if name in logs[0]:
            table.add_row(label, *(form.format(value) for value in ends_of(name)))
    table.add_section()
    table.add_row("loss on held-out replies", f"{results.before:.3f}", f"{results.after:.3f}")
    console.print()
    console.print(table)
    console.print(f"Trained {len(logs)} steps in {results.seconds / 60:.1f} minutes.")
    console.print()
    _print_examples(console, trainer)
    console.print()
    console.print(Text.assemble("Adapter saved in ", (str(results.output_dir.resolve()), "bold")), soft_wrap=True)
    console.print("\nThe same in your own run is one line:")
    console.print("  TRL      [bold]sstoken sft --sstoken[/bold] ...           in place of [bold]trl sft[/bold] ...")
    console.print("  Axolotl  [bold]plugins: \\[sstoken_axolotl.SSTokenPlugin][/bold]  in your YAML")


def _print_examples(console: Console, trainer: Any) -> None:
    coloured = console.color_system is not None and not console.no_color
    legend = Text("Which tokens train now: ", style="bold")
    legend.append("question", style="dim").append("  ")
    legend.append(*_kept("kept", coloured)).append("  ")
    legend.append(*_dropped("dropped", coloured))
    console.print(legend)
    rows = [trainer.train_dataset[i] for i in range(EXAMPLES)]
    batch = trainer._prepare_inputs(trainer.data_collator(rows))
    trainer.model.train()
    with torch.no_grad():
        _, selection = trainer.token_selector.forward(trainer.model, batch, trainer.state.global_step)
    tokenizer = trainer.processing_class
    special = set(tokenizer.all_special_ids)
    for row in range(len(rows)):
        text = Text("- ")
        for column, token in enumerate(batch["input_ids"][row].tolist()):
            piece = tokenizer.decode([token]).replace("\n", " ")
            if (
                selection.documents.ids[row, column] < 0
                or token in special
                or _is_template(batch, row, column, special)
            ):
                continue
            if selection.kept[row, column]:
                text.append(*_kept(piece, coloured))
            elif selection.dropped[row, column]:
                text.append(*_dropped(piece, coloured))
            else:
                text.append(piece, style="dim")
        console.print(text)


def _is_template(batch: Any, row: int, column: int, special: set[int]) -> bool:
    """Role names right after a special token, and the system prompt before the question."""
    ids = batch["input_ids"][row].tolist()
    turns = [i for i in range(len(ids)) if ids[i] in special and i + 1 < len(ids) and ids[i] == ids[0]]
    question = turns[-2] if len(turns) > 1 else 0
    return column < question or any(column in (turn + 1, turn + 2) for turn in turns)


def _kept(piece: str, coloured: bool) -> tuple[str, str]:
    return piece, "bold green" if coloured else ""


def _dropped(piece: str, coloured: bool) -> tuple[str, str]:
    if coloured:
        return piece, "strike red"
    lead = " " if piece.startswith(" ") else ""
    return f"{lead}[-{piece.strip()}-]", ""
