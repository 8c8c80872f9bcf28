"""Numbers that methods rank or weigh tokens by: arithmetic on measurements. `base` says what a signal is."""

from .base import Signal

__all__ = ["Signal"]
