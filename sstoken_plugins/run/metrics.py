"""The metrics that every tracker shows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..markers import hookimpl
from ..methods import Selection

PREFIX = "sstoken/"
Key = tuple[str, int]
"""Name, and the step since the last log, or -1 for what is not told apart by steps."""


class Metrics:
    """Running means, kept on the device until somebody logs."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps: dict[str, list[Tensor]] = {}
        self._in_step: dict[str, Tensor] = {}

    def record(self, name: str, total: Tensor, count: Tensor) -> None:
        """Adds to the mean `total / count` over everything since the last log."""
        _add(self._sums, name, total, count)

    def record_in_step(self, name: str, total: Tensor, count: Tensor) -> None:
        """Adds to the mean `total / count` over this optimizer step; what is logged is the mean over the steps, as
        trainers log their loss."""
        _add(self._in_step, name, total, count)

    def step_end(self) -> None:
        """Called after every optimizer step."""
        for name, pair in self._in_step.items():
            self._steps.setdefault(name, []).append(pair)
        self._in_step = {}

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing that is recorded while this is open counts."""
        before = dict(self._sums), dict(self._in_step)
        try:
            yield
        finally:
            self._sums, self._in_step = before

    def drain(
        self,
        reduce: Callable[[Tensor], Tensor] = lambda sums: sums,
        gather: Callable[[list[Key]], list[list[Key]]] = lambda names: [names],
    ) -> dict[str, float]:
        """The means since the last call.

        Args:
            reduce: sums a tensor over processes; all must call this together.
            gather: gives every process the names that each has, which need not be the same.
        """
        pairs = {(name, -1): pair for name, pair in self._sums.items()}
        pairs |= {(name, i): pair for name, steps in self._steps.items() for i, pair in enumerate(steps)}
        names = sorted({name for each in gather(sorted(pairs)) for name in each})
        if not names:
            return {}
        some = next(iter(pairs.values()), torch.zeros(2, dtype=torch.float64))
        sums = reduce(torch.stack([pairs.get(name, torch.zeros_like(some)) for name in names])).tolist()
        self._sums, self._steps = {}, {}
        means: dict[str, list[float]] = {}
        for (name, _), (total, count) in zip(names, sums, strict=True):
            if count:
                means.setdefault(PREFIX + name, []).append(total / count)
        return {name: sum(values) / len(values) for name, values in means.items()}


def _add(sums: dict[str, Tensor], name: str, total: Tensor, count: Tensor) -> None:
    exact = torch.float32 if total.device.type == "mps" else torch.float64
    pair = torch.stack([total.detach().to(exact), count.detach().to(total.device, exact)])
    sums[name] = sums[name] + pair if name in sums else pair


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
