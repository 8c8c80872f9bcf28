"""A comparison in the terminal."""

from __future__ import annotations

import itertools

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .comparison import Comparison
from .terminal import GREY, PROMPT_TOKENS, RESPONSE_TOKENS, harmless

STYLES = {"both": "", "neither": "dim", "gained": "bold green", "lost": "bold red strike"}
MARKS = {"both": "{}", "neither": "{}", "gained": "[+{}+]", "lost": "[-{}-]"}


def show(console: Console, comparison: Comparison, samples: int) -> None:
    """Prints the totals, the tokens that change most often, and the first samples in which tokens change."""
    coloured = console.color_system is not None and not console.no_color
    first, *others = comparison.names
    for which, name in enumerate(others, 1):
        n, all_tokens = int(comparison.changed[which].sum()), comparison.kept.shape[1]
        share = n / max(1, all_tokens)
        console.print(
            Text(f"{name} changes {n} of {all_tokens} response tokens ({share:.1%}) of {first}", style="bold")
        )
    console.print()
    console.print(_table(comparison))
    for which, name in enumerate(others, 1):
        _print_movers(console, comparison, which, name, coloured)
    _print_samples(console, comparison, samples, coloured)


def _table(comparison: Comparison) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("tokens")
    table.add_column("", justify="right")
    for which, name in enumerate(comparison.names):
        table.add_column(f"kept by {name}", justify="right")
        if comparison.weighted:
            table.add_column("weight", justify="right")
        if which:
            table.add_column("gained", justify="right")
            table.add_column("lost", justify="right")
    for totals in comparison.totals():
        cells = [totals.kind, str(totals.n)]
        for which in range(len(comparison.names)):
            cells.append(f"{totals.kept[which] / totals.n:.0%}")
            if comparison.weighted:
                cells.append(f"{totals.weight[which] / totals.n:.3f}")
            if which:
                cells += [str(totals.gained[which]), str(totals.lost[which])]
        table.add_row(*cells)
    return table


def _print_movers(console: Console, comparison: Comparison, which: int, name: str, coloured: bool) -> None:
    for what, rows in zip(("gained", "lost"), comparison.movers(which, 10), strict=True):
        if not rows:
            continue
        line = Text(f"\n{name}, {what} most often:  ")
        for text, times, seen in rows:
            line.append_text(_marked(repr(text)[1:-1] or "''", what, coloured)).append(
                f" {times}/{seen}   ", style=GREY
            )
        console.print(line)


def _print_samples(console: Console, comparison: Comparison, samples: int, coloured: bool) -> None:
    """Of the second report against the first; the page shows the others."""
    first, second = comparison.names[:2]
    report, response = comparison.reports[0], comparison.reports[0].response
    before, now = (np.zeros(len(response), bool) for _ in range(2))
    before[response], now[response] = comparison.kept[0], comparison.kept[1]
    changed, sample = before != now, report.columns["sample"]
    for number in np.unique(sample[changed])[:samples].tolist():
        here = np.flatnonzero(sample == number)
        n = int(changed[here].sum())
        title = Text(f"\nSample {number + 1}: {n} tokens change from {first} to {second}   ", style="bold")
        title.append_text(_marked("gained", "gained", coloured)).append(" ")
        console.print(title.append_text(_marked("lost", "lost", coloured)))
        begin = max(0, int(np.flatnonzero(response[here])[0]) - PROMPT_TOKENS)
        shown = here[begin : begin + PROMPT_TOKENS + RESPONSE_TOKENS]
        statuses = [_status(bool(response[i]), bool(before[i]), bool(now[i])) for i in shown]
        text = Text(f"[... {begin} tokens] " if begin else "", style=GREY)
        body = Text()
        pieces = zip(statuses, report.columns["text"][shown].tolist(), strict=True)
        for status, run in itertools.groupby(pieces, lambda pair: pair[0]):
            body.append_text(_marked("".join(piece for _, piece in run), status, coloured))
        if len(here) > begin + len(shown):
            body.append(f" [{len(here) - begin - len(shown)} tokens ...]", style=GREY)
        console.print(Padding(Text.assemble(text, body), (0, 0, 0, 2), expand=False))


def _status(response: bool, before: bool, now: bool) -> str:
    if not response:
        return "prompt"
    return {(True, True): "both", (False, False): "neither", (False, True): "gained"}.get((before, now), "lost")


def _marked(text: str, status: str, coloured: bool) -> Text:
    text = harmless(text)
    if status == "prompt":
        return Text(text, style=GREY)
    inner = text.strip()
    if coloured or not inner:
        return Text(text, style=STYLES[status] if coloured else "")
    lead, trail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return Text(lead + MARKS[status].format(inner) + trail)
