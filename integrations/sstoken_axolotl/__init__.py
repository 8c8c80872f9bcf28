"""ssToken for Axolotl: `plugins: [sstoken_axolotl.SSTokenPlugin]` in a YAML that already works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .plugin import SSTokenPlugin

__all__ = ["SSTokenPlugin"]


def __getattr__(name: str) -> Any:
    """The framework is registered where Axolotl is not installed, too."""
    if name == "SSTokenPlugin":
        from .plugin import SSTokenPlugin

        return SSTokenPlugin
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
