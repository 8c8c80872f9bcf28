"""The metrics that every tracker shows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..markers import hookimpl
from ..methods import Selection

PREFIX = "sstoken/"


class Metrics:
    """Running means, kept on the device until somebody logs."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def record(self, name: str, total: Tensor, count: Tensor) -> None:
        exact = torch.float32 if total.device.type == "mps" else torch.float64
        pair = torch.stack([total.detach().to(exact), count.detach().to(total.device, exact)])
        self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing that is recorded while this is open counts."""
        sums = dict(self._sums)
        try:
            yield
        finally:
            self._sums = sums

    def drain(
        self,
        reduce: Callable[[Tensor], Tensor] = lambda sums: sums,
        gather: Callable[[list[str]], list[list[str]]] = lambda names: [names],
    ) -> dict[str, float]:
        """The means since the last call.

        Args:
            reduce: sums a tensor over processes; all must call this together.
            gather: gives every process the names that each has, which need not be the same.
        """
        names = sorted({name for each in gather(sorted(self._sums)) for name in each})
        if not names:
            return {}
        some = next(iter(self._sums.values()), torch.zeros(2, dtype=torch.float64))
        sums = reduce(torch.stack([self._sums.get(name, torch.zeros_like(some)) for name in names])).tolist()
        self._sums = {}
        return {PREFIX + name: total / count for name, (total, count) in zip(names, sums, strict=True) if count}


@hookimpl
def observe(selection: Selection, record: Callable[[str, Tensor, Tensor], None]) -> None:
    kept, dropped = selection.kept, selection.dropped
    record("keep_rate", kept.sum(), selection.documents.response.sum())
    if "attention" in selection.measured:
        trains = selection.documents.n_response > 0
        record("without_prompt", (trains & ~selection.documents.has_prompt).sum(), trains.sum())
    for name in ("rel", "attention"):
        if name in selection.signals:
            values = selection.signals[name]
            record(f"{name}_kept", torch.where(kept, values, 0).sum(), kept.sum())
            record(f"{name}_dropped", torch.where(dropped, values, 0).sum(), dropped.sum())
