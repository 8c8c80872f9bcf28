"""Earlier versions of the model: one file each. `base` says what a history is."""

from .base import History, LiveHistory, Stored, TrainingRun

__all__ = ["History", "LiveHistory", "Stored", "TrainingRun"]
