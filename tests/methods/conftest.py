"""The fixtures of the core's tests."""

from __future__ import annotations

from ..core.conftest import lora

__all__ = ["lora"]
