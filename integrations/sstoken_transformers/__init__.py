"""Token selection for any `transformers.Trainer`; the TRL and Axolotl integrations build on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoints import newest_whole_checkpoint
    from .data import look_at_prompts
    from .framework import Framework
    from .trainer import SSTokenTrainerMixin, with_token_selection
    from .unsupported import refuse_unsupported

__all__ = [
    "Framework",
    "SSTokenTrainerMixin",
    "look_at_prompts",
    "newest_whole_checkpoint",
    "refuse_unsupported",
    "with_token_selection",
]

_HOMES = {
    "Framework": "framework",
    "SSTokenTrainerMixin": "trainer",
    "newest_whole_checkpoint": "checkpoints",
    "refuse_unsupported": "unsupported",
    "look_at_prompts": "data",
    "with_token_selection": "trainer",
}


def __getattr__(name: str) -> Any:
    """Importing transformers takes seconds, and a framework has to be registered without."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
