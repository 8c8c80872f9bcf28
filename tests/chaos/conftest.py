"""The ledger of the session, shown at its end."""

from __future__ import annotations

import pytest

from .ledger import LEDGER, Ledger


@pytest.fixture
def ledger() -> Ledger:
    return LEDGER


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
