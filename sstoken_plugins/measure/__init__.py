"""What passes of the model can tell of every token. One file each; `base` holds what they have in common."""

from .base import Column, HeadStatistic, Measurement, OwnPass, Passes, TrainingPass
from .measurements import Measurements

__all__ = ["Column", "HeadStatistic", "Measurement", "Measurements", "OwnPass", "Passes", "TrainingPass"]
