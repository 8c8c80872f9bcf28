"""Ways to turn signals into the weight of every token's loss: one file each, and a new one changes nothing else.

`base` says what a method is, `_template.py` is one to copy, and `ranking` holds the arithmetic that several share.
"""

from .base import Method
from .ranked import RankedMethod, RhoOptions
from .selection import Selection

__all__ = ["Method", "RankedMethod", "RhoOptions", "Selection"]
