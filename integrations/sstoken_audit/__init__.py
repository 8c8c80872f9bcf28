"""Look at your data before you train on it.

    from sstoken_audit import audit

    result = audit("chats.jsonl", "HuggingFaceTB/SmolLM2-135M-Instruct")
    result.suspects      # numbers of the rows, the most suspicious first
    result.to_pandas()   # all numbers and reasons

`Check` and `hookimpl` are for checks of your own; `hookspecs` says how.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import AuditError
from .hookspecs import hookimpl

if TYPE_CHECKING:
    from .checks.base import Check
    from .result import AuditResult
    from .run import audit

__all__ = ["AuditError", "AuditResult", "Check", "audit", "hookimpl"]


def __getattr__(name: str) -> Any:
    """Imports the rest when it is asked for."""
    if name == "audit":
        from .run import audit

        return audit
    if name == "AuditResult":
        from .result import AuditResult

        return AuditResult
    if name == "Check":
        from .checks.base import Check

        return Check
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
