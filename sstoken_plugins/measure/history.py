"""What the history model says of each token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from ..data import MicroBatch
from ..guard import checked, expect
from ..histories import History
from ..histories.base import Stored
from ..markers import hookimpl
from .base import IF_STORED, Column, Measurement, OwnPass, Passes


class HistoryLogProbs(OwnPass):
    """`log p(token | tokens before)` under the history model, in nats.

    What the history has stored is taken from there, and the rest from a pass of the model as it was, if the history
    can bring that back. If any process lacks a sample, all of them run that pass. Once, at the beginning, such a pass
    also tells whether what is stored is of this model.
    """

    needs = frozenset({"log_probs"})
    reads_history = True
    cost = "a forward pass of the history" + IF_STORED
    column = Column(
        "log-prob history",
        "The log-probability of the token under the history model, in nats.",
        name="history_log_prob",
        log_probability=True,
    )

    def measure(self, passes: Passes, batch: MicroBatch) -> Tensor:
        assert self.history is not None
        history, stored = self.history, self.history.stored(batch)
        is_right = isinstance(stored, Stored | None)
        expect("history", history.name, history, "stored", stored, is_right, "a `Stored` or None")
        if stored is None:
            with active(history, passes.model):
                return passes.log_probs(batch)
        checked("history", history.name, history, "stored", stored.values, batch.documents.ids)
        doubted = history.in_doubt
        if not history.runs and not doubted:
            return stored.values
        wanted = (history.runs and stored.n_missing > 0) or (doubted and stored.n_missing < len(batch.index))
        if not passes.agree(wanted):
            return stored.values
        with active(history, passes.model):
            live = passes.log_probs(batch)
        if doubted:
            history.verify(stored, live, batch.documents.response)
        return torch.where(stored.values.isnan(), live, stored.values) if history.runs else stored.values

    def compare(self, values: Tensor, known: Mapping[str, Tensor]) -> Tensor:
        assert self.history is not None
        compared = self.history.compare(values, known["log_probs"])
        return checked("history", self.history.name, self.history, "compare", compared, known["log_probs"])


def active(history: History, model: nn.Module) -> AbstractContextManager[None]:
    """What `history.active` returns.

    Raises:
        PluginError: if that is no context manager.
    """
    opened = history.active(model)
    is_right = isinstance(opened, AbstractContextManager)
    expect("history", history.name, history, "active", opened, is_right, "a context manager")
    return opened


@hookimpl
def register_measurements(register: Callable[[str, type[Measurement]], None]) -> None:
    register("history", HistoryLogProbs)
