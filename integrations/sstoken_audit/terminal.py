"""What was found, in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .result import AuditResult

GREY = "bright_black"


def harmless(text: str) -> str:
    """One line, without what a terminal takes for commands."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def show(console: Console, result: AuditResult, examples: int) -> None:
    """Prints counts by check, notes, and the most suspicious rows."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("check")
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    table.add_column("what")
    for finding in result.findings:
        n = int(finding.flagged.sum())
        style = "bold" if n else GREY
        table.add_row(finding.check.name, str(n), f"{n / len(result):.1%}", finding.check.title(), style=style)
    console.print(Text(result.summary(), style="bold"))
    console.print()
    console.print(table)
    for finding in result.findings:
        if finding.check.note:
            console.print(Text(f"\n{finding.check.name}: {finding.check.note}"))
    for number in result.suspects[:examples]:
        prompt, answer = result.texts(int(number))
        console.print(
            Text(f"\nrow {number}", style="bold").append("  " + harmless("; ".join(result.reasons(int(number)))))
        )
        console.print(Padding(Text(harmless(prompt), style=GREY), (0, 0, 0, 2), expand=False))
        console.print(Padding(Text(harmless(answer)), (0, 0, 0, 4), expand=False))
