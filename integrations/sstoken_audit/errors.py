"""What the user can fix."""

from __future__ import annotations


class AuditError(ValueError):
    """The message names the field or the row, its value, and how to fix it."""
