"""What the user can fix."""

from __future__ import annotations

from sstoken_plugins.errors import printable


class AuditError(ValueError):
    """The message names the field or the row, its value, and how to fix it."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))  # columns and files may have any name
