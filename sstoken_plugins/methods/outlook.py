"""What is known of a method, in the sentence that logs and the doctor show."""

from __future__ import annotations

from ..errors import Problem
from .base import Method

RESULTS = "docs/results.md"


def evidence(method: type[Method]) -> str:
    """What was measured of this very class; a class derived from it is another method."""
    found: str = vars(method).get("evidence", "")
    return found


def outlook(method: type[Method], name: str) -> Problem | None:
    """What was measured, and what to compare with; None for plain fine-tuning itself."""
    if name == "full":
        return None
    known = evidence(method) or "not compared with plain fine-tuning by this project"
    return Problem(
        "What to expect of {name!r}: {known} ({results}). We recommend starting with plain fine-tuning ({strategy} "
        "'full'), and comparing the two on your data.",
        name=name,
        known=known,
        results=RESULTS,
    )
