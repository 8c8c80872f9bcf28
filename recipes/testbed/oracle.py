"""What the testbed adds to the methods that it compares, through the hooks that any plugin uses.

oracle   drops exactly the spoiled tokens: the ceiling, which nobody has outside of a testbed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from flaws import Sample
from measure import numbers
from torch import Tensor

from sstoken_plugins import Documents, Measurements, Method, Progress, Selection, Signal, hookimpl


class Known:
    """The spoiled tokens of the cell that is running, and what was kept of them."""

    def __init__(self) -> None:
        self._spoiled: dict[tuple[int, ...], Tensor] = {}
        self._sums: dict[str, float] = {}

    def start(self, samples: Sequence[Sample]) -> None:
        self._spoiled = {
            tuple(numbers((*sample.prompt, *sample.response))): torch.tensor(sample.spoiled) for sample in samples
        }
        self._sums = dict.fromkeys(("total", "spoiled", "kept", "kept_spoiled"), 0.0)

    def spoiled(self, input_ids: Tensor, documents: Documents) -> Tensor:
        """(B, S) bool, at the response tokens of documents that `start` was told of."""
        found = torch.zeros(documents.response.shape, dtype=torch.bool)
        ids, numbered, response = input_ids.cpu(), documents.ids.cpu(), documents.response.cpu()
        for number in range(int(numbered.max()) + 1):
            mine = numbered == number
            found[mine & response] = self._spoiled[tuple(ids[mine].tolist())]
        return found.to(input_ids.device)

    def add(self, response: Tensor, weights: Tensor, spoiled: Tensor) -> None:
        kept = (response & (weights != 0)).float()
        for name, values in (
            ("total", response),
            ("spoiled", spoiled),
            ("kept", kept),
            ("kept_spoiled", kept * spoiled),
        ):
            self._sums[name] += float(values.sum())

    def shares(self) -> dict[str, float | None]:
        """`keep_rate`, and which share of all, of the kept and of the dropped tokens is spoiled; None of none."""
        total, spoiled, kept, kept_spoiled = (self._sums[n] for n in ("total", "spoiled", "kept", "kept_spoiled"))
        return {
            "keep_rate": kept / total if total else None,
            "spoiled": spoiled / total if total else None,
            "spoiled_of_kept": kept_spoiled / kept if kept else None,
            "spoiled_of_dropped": (spoiled - kept_spoiled) / (total - kept) if total > kept else None,
        }


KNOWN = Known()


class Spoiled(Signal):
    """1 on spoiled tokens, 0 on sound ones."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, measured: Measurements) -> Tensor:
        return KNOWN.spoiled(measured.input_ids, measured.documents).float()


class Oracle(Method):
    """Weight 1 on sound tokens, 0 on spoiled ones; the loss is divided by all response tokens, as in `full`."""

    selects = True

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["spoiled"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return 1 - signals["spoiled"]


@hookimpl
def register_signals(register: Any) -> None:
    register("spoiled", Spoiled)


@hookimpl
def register_methods(register: Any) -> None:
    register("oracle", Oracle)


@hookimpl
def observe(selection: Selection, record: Any) -> None:
    spoiled = KNOWN.spoiled(selection.measured.input_ids, selection.documents)
    KNOWN.add(selection.documents.response, selection.weights, spoiled)
