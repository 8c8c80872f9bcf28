"""What a command says when it cannot go on."""

from __future__ import annotations

import sys

from sstoken_plugins.errors import printable


def fail(command: str, error: Exception) -> int:
    """Prints what is wrong, one sentence a line; returns the exit status."""
    print(printable(f"sstoken {command}: {error}"), file=sys.stderr)
    return 2
