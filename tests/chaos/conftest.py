"""The ledger of the session, shown at its end; and plugins for the length of a test."""

from __future__ import annotations

from typing import Any

import pytest

from sstoken_plugins import hookimpl
from sstoken_plugins.registry import plugin_manager

from .ledger import LEDGER, Ledger


@pytest.fixture
def ledger() -> Ledger:
    return LEDGER


@pytest.fixture
def register():
    """Registers a plugin with these hooks; `undo` takes all of them out again."""
    registered = []

    def add(**hooks: Any) -> None:
        class Plugin:
            __module__ = f"{__package__}.test_plugins"

        for name, function in hooks.items():
            setattr(Plugin, name, hookimpl(function))
        plugin = Plugin()
        plugin_manager().register(plugin, f"hostile-{len(registered)}")
        registered.append(plugin)

    def undo() -> None:
        while registered:
            plugin_manager().unregister(registered.pop())

    add.undo = undo
    yield add
    undo()


def pytest_terminal_summary(terminalreporter) -> None:
    if not LEDGER.counts:
        return
    terminalreporter.section("ledger of trials")
    rows = LEDGER.rows()
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        name, *numbers = row
        cells = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
        terminalreporter.write_line("  ".join([name.ljust(widths[0]), *cells]))
