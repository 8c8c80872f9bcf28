"""A report in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from .table import Report

GREY = "bright_black"
PROMPT_TOKENS, RESPONSE_TOKENS = 60, 300


def harmless(text: str) -> str:
    """The text without what a terminal takes for commands; data may hold some."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def marked(piece: str, kept: bool, coloured: bool) -> Text:
    """Kept text stands out; dropped text is struck through, by colour and line or by `[-...-]`."""
    if kept:
        return Text(piece, style="bold green" if coloured else "")
    inner = piece.strip()
    lead, trail = piece[: len(piece) - len(piece.lstrip())], piece[len(piece.rstrip()) :] if inner else ""
    struck = Text(inner, style="dim strike") if coloured else Text(f"[-{inner}-]" if inner else "")
    return Text(lead) + struck + Text(trail)


def show(console: Console, report: Report, samples: int) -> None:
    """Prints the first samples, the numbers, and what is kept and dropped most often."""
    coloured = console.color_system is not None and not console.no_color
    legend = Text("Which tokens train", style="bold").append("   ").append_text(marked("kept", True, coloured))
    legend.append("  ").append_text(marked("dropped", False, coloured)).append("  prompt", style=GREY)
    console.print(legend)
    for number, columns in zip(range(samples), report.samples(), strict=False):
        response, kept = columns["response"], columns["weight"] != 0
        n_kept = int((kept & response).sum())
        console.print(f"\nSample {number + 1}: {n_kept} of {int(response.sum())} response tokens kept", style="bold")
        text = _text(columns["text"].tolist(), response.tolist(), kept.tolist(), coloured)
        console.print(Padding(text, (0, 0, 0, 2), expand=False))
    console.print()
    console.print(_numbers(report))
    _print_favourites(console, report, coloured)


def _text(texts: list[str], response: list[bool], kept: list[bool], coloured: bool) -> Text:
    """The sample in runs of one status; of a long prompt its end, of a long response its beginning."""
    text = Text()
    first = next(i for i, one in enumerate(response) if one)
    begin = max(0, first - PROMPT_TOKENS)
    if begin:
        text.append(f"[... {begin} tokens] ", style=GREY)
    run, status, shown = "", None, 0
    for i in range(begin, len(texts)):
        now = bool(kept[i]) if response[i] else None
        if now is not status or i == begin:
            text.append_text(_run(run, status, coloured))
            run, status = "", now
        run += texts[i]
        shown += bool(response[i])
        if shown >= RESPONSE_TOKENS and i + 1 < len(texts):
            text.append_text(_run(run, status, coloured))
            return text.append(f" [{len(texts) - i - 1} tokens ...]", style=GREY)
    return text.append_text(_run(run, status, coloured))


def _run(run: str, status: bool | None, coloured: bool) -> Text:
    run = harmless(run)
    return Text(run, style=GREY) if status is None else marked(run, status, coloured)


def _numbers(report: Report) -> Table:
    from .columns import labels
    from .summary import scalars

    means = scalars(report)
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(f"{report.n_samples} samples, step {report.step}")
    table.add_column("kept", justify="right")
    table.add_column("dropped", justify="right")
    rate = means["keep_rate"]
    table.add_row("response tokens", *(f"{n} ({part:.0%})" for n, part in (
        (int(report.kept.sum()), rate), (int(report.dropped.sum()), 1 - rate),
    )))  # fmt: skip
    for name, label in labels(report.about).items():
        if f"{name}_kept" in means:
            dropped = means.get(f"{name}_dropped")
            table.add_row(
                f"{label}, mean", f"{means[f'{name}_kept']:.3f}", "" if dropped is None else f"{dropped:.3f}"
            )
    return table


def _print_favourites(console: Console, report: Report, coloured: bool) -> None:
    from .summary import favourites

    for kept_most, rows in zip((True, False), favourites(report, 12), strict=True):
        line = Text(f"\n{'Kept' if kept_most else 'Dropped'} most often, for how common they are:  ")
        for text, kept, seen in rows:
            times = kept if kept_most else seen - kept
            line.append_text(_run(repr(text)[1:-1] or "''", kept_most, coloured)).append(
                f" {times}/{seen}   ", style=GREY
            )
        console.print(line)
