"""What is registered, in words: one line about each, and what it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from . import registry
from .histories import LiveHistory
from .measure.base import IF_STORED
from .methods import Method

WIDTH = 180
"""Of tables that no terminal shows."""
TITLES = {
    "method": "Methods: `strategy`",
    "history": "Histories: `history`",
    "signal": "Signals: what methods rank and weigh by",
    "measurement": "Measurements: what signals read",
    "framework": "Frameworks",
}


def summary(implementation: type) -> str:
    """The first sentence of its documentation."""
    paragraph = " ".join((implementation.__doc__ or "").strip().partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".") + "." if paragraph else ""


def cost(method: type[Method]) -> str:
    """What a method costs beside plain fine-tuning, with its own options as they are by default."""
    signals, measurements = registry.registered("signal"), registry.registered("measurement")
    reads = sorted(method().reads)
    if not reads and any(field.name == "signal" for field in dataclasses.fields(method.Options)):
        return "that of its signal"
    pending = [need for name in reads for need in signals[name].needs]
    needed: list[str] = []
    while pending:
        name = pending.pop(0)
        if name not in needed:
            needed.append(name)
            pending += measurements[name].needs
    costs = [measurements[name].cost for name in sorted(needed)]
    if only := getattr(method, "histories", ()):
        stored = [name for name in only if not issubclass(registry.lookup("history", name), LiveHistory)]
        costs = costs if stored else [each.replace(IF_STORED, "") for each in costs]
    return "; ".join(dict.fromkeys(each for each in costs if each)) or "nothing"


def table(kind: str, implementations: Mapping[str, type]) -> Table:
    """One row for each registered name."""
    shown = Table(title=TITLES[kind], title_justify="left", show_edge=False, pad_edge=False)
    shown.add_column("name", no_wrap=True)
    shown.add_column("what it is", ratio=3)
    if kind == "method":
        shown.add_column("costs", ratio=2)
        shown.add_column("reference", no_wrap=True)
    shown.add_column("from", no_wrap=True)
    for name, each in sorted(implementations.items()):
        package = each.__module__.partition(".")[0]
        of_method = [cost(each), getattr(each, "reference", "")] if kind == "method" else []
        shown.add_row(name, summary(each), *of_method, "" if package == __package__ else package)
    return shown


def show() -> None:
    """Prints every registered name, and the installed packages that registered some."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=WIDTH)
    for kind in TITLES:
        console.print(table(kind, registry.registered(kind)), "")
    for plugin, reason in registry.broken_plugins().items():
        console.print(f"left out: {plugin}: {reason}")
    packages = ", ".join(registry.installed_packages()) or "none; the above is built in"
    console.print(f"Installed plugin packages: {packages}")
