"""How other packages add checks.

    from sstoken_audit import Check, hookimpl

    class Shouting(Check):
        "Answers in capitals."
        name, formula, threshold = "shouting", "share of letters that are capitals", 0.7

        def score(self, rows):
            return np.array([np.mean([c.isupper() for c in s.answer] or [0]) for s in rows.each()])

        def reason(self, number, value):
            return f"{value:.0%} of the letters are capitals"

    @hookimpl
    def register_checks(register):
        register(Shouting)

and in the package's pyproject.toml:

    [project.entry-points.sstoken_audit]
    shouting = "my_package.my_module"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pluggy import HookspecMarker

from sstoken_plugins import hookimpl

if TYPE_CHECKING:
    from .checks.base import Check

__all__ = ["hookimpl", "hookspec", "register_checks"]

hookspec = HookspecMarker("sstoken")


@hookspec
def register_checks(register: Callable[[type[Check]], None]) -> None:
    """Name checks of `sstoken audit`: call `register` with each class."""
