"""A method to copy: tokens that are still hard train. (Name the paper here, if there is one.)

Copy this file to `methods/my_method.py`, rename what is in it, and every framework, report and command knows the
method by its name and its options. In a package of your own, import from `sstoken_plugins` and add an entry point; see
`hookspecs`. `tests/core/test_contract.py` says what every method has to keep to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Documents, Progress
from ..markers import hookimpl
from ..options import NoOptions, option
from .base import Method


@dataclass(frozen=True)
class TemplateOptions(NoOptions):
    least_loss: float = option(
        0.5,
        "A token trains if its loss is above this, in nats.",
        valid=lambda loss: 0 <= loss < math.inf,
        otherwise=", but it is a loss in nats: set it to 0 or more, for example 0.5 (0 trains on nearly all tokens).",
        shown=True,
    )


class Template(Method):
    """Every token with `-log p > least_loss` under the current model; the loss is divided by all response tokens."""

    Options = TemplateOptions
    selects = True  # the weights are 0 and 1 alone

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["loss"]  # `sstoken plugins` lists the signals

    def eligible(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        hard: Tensor = signals["loss"] > self.options.least_loss
        return documents.response & hard

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return self.eligible(signals, documents, progress).float()


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("template", Template)
