"""Options that several methods have, each with a default of its own."""

from __future__ import annotations

import math
from typing import Any

from ..options import option


def alpha(default: float) -> Any:
    """An exponent."""
    return option(
        default,
        "Exponent of the weight; 0 weighs all tokens alike.",
        valid=lambda alpha: 0 <= alpha < math.inf,
        otherwise=", but it is an exponent: set it to 0 or more, for example 1.0.",
        shown=True,
    )


def beta(default: float) -> Any:
    """A strength."""
    return option(
        default,
        "How sharply the weight of a sample follows its score.",
        valid=lambda beta: 0 < beta < math.inf,
        otherwise=", but it is a strength: set it above 0, for example 0.1.",
        shown=True,
    )


def tau() -> Any:
    """A temperature that the data can give."""
    return option(
        None,
        "Loss in nats at which the weight is 1/e. Unset: the median loss in earlier optimizer steps.",
        valid=lambda tau: 0 < tau < math.inf,
        otherwise=", but it is a loss in nats: set it above 0, for example 1.0, or leave it out.",
        shown=True,
    )


def threshold(default: float) -> Any:
    """A bar."""
    return option(
        default,
        "The bar that decides whether a token trains: a probability for profit, a loss in nats for memft.",
        valid=lambda bar: 0 < bar < math.inf,
        otherwise=": set it above 0.",
        shown=True,
    )
