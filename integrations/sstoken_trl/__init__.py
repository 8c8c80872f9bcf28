"""ssToken for TRL: `SSTokenSFTTrainer`, `SSTokenSFTConfig` and `sstoken sft` in place of TRL's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import SSTokenSFTConfig
    from .trainer import SSTokenSFTTrainer

__all__ = ["SSTokenSFTConfig", "SSTokenSFTTrainer"]


def __getattr__(name: str) -> Any:
    """Importing TRL takes seconds; the demo has something to say before."""
    if name == "SSTokenSFTConfig":
        from .config import SSTokenSFTConfig

        return SSTokenSFTConfig
    if name == "SSTokenSFTTrainer":
        from .trainer import SSTokenSFTTrainer

        return SSTokenSFTTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
