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
        cells = [
            text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in enumerate(zip(row, widths))
        ]
        terminalreporter.write_line("  ".join(cells))
