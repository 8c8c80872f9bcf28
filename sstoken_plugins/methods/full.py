"""Everything: plain fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ..data import Counts, Documents, Progress
from ..markers import hookimpl
from .base import Method


class Full(Method):
    """Every response token: plain fine-tuning, through the same code."""

    selects = True

    def signals(self, progress: Progress) -> Sequence[str]:
        return []

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return documents.response.float()

    def n_kept(self, counts: Counts, progress: Progress) -> Tensor:
        return counts.n_response


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("full", Full)
