"""Where a token stands among all that are stored, by how much likelier the reference finds it than the history."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..data import BatchIndex, MicroBatch
from ..errors import refused
from ..histories import History
from ..histories.recorded import RecordedHistory
from ..histories.reference import ReferenceStore
from ..markers import hookimpl
from ..store import DiskStore
from .base import Measurement, OwnPass, Passes
from .reference import ReferenceOptions

DOCUMENTS_AT_ONCE = 1 << 16


class ReferenceRank(OwnPass):
    """The share, in [0, 1), of all stored tokens whose `log q_reference - log q_history` is below the token's.

    All stored tokens are the response tokens of the documents that are both in the history's store and in the
    reference's, each document once. Both have to be recorded. The scores are read and sorted once, before the first
    step; that takes 4 bytes of memory for each token.
    """

    Options = ReferenceOptions
    needs = frozenset({"history", "reference"})
    reads_history = True
    cost = ""

    def __init__(self, options: ReferenceOptions, history: History | None = None) -> None:
        super().__init__(options, history)
        self._sorted: Tensor | None = None
        if history is None:
            return
        if not isinstance(history, RecordedHistory) or not options.reference_store:
            raise refused(
                "{over} is 'data', which compares each token with all others of the data, so both models have to be "
                "recorded before training, but {history} is {name!r} and {reference_store} is {folder!r}: set "
                "{history} to 'recorded' and {reference_store} to a recorded reference, or set {over} to 'sample'.",
                name=history.name,
                folder=options.reference_store,
            )
        self._reference = ReferenceStore(options.reference_store).store

    def measure(self, passes: Passes, batch: MicroBatch) -> Tensor:
        assert isinstance(self.history, RecordedHistory)
        if self._sorted is None:
            self._sorted = self._all_scores(self.history.store)
        n_missing = self.history.stored(batch).n_missing
        if n_missing and not self.history.runs:
            raise refused(
                "{n} samples of a micro-batch are not in {history_store} {folder}, and there is no base model to "
                "score them with: run `sstoken record` again, or set {history_record} to True.",
                n=n_missing,
                folder=self.history.store.folder,
            )
        scores = passes.measure("reference", batch) - passes.measure("history", batch)
        self._sorted = self._sorted.to(scores.device)
        below = torch.searchsorted(self._sorted, scores.contiguous())
        return torch.where(batch.documents.response, below.float() / len(self._sorted), 0)

    def _all_scores(self, history: DiskStore) -> Tensor:
        """(T,) float32, ascending."""
        keys, lengths = history.documents
        found = []
        for begin in range(0, len(keys), DOCUMENTS_AT_ONCE):
            n = lengths[begin : begin + DOCUMENTS_AT_ONCE]
            tokens = torch.arange(int(n.sum()))
            index = BatchIndex(keys[begin : begin + DOCUMENTS_AT_ONCE], n, tokens, (1, len(tokens)), tokens)
            scores = self._reference.get(index)[0] - history.get(index)[0]
            found.append(scores[~scores.isnan()])
        everything = torch.cat(found) if found else torch.empty(0)
        if not len(everything):
            raise refused(
                "{history_store} {folder} and {reference_store} {other} have no document in common: record both over "
                "the data of this training.",
                folder=history.folder,
                other=self._reference.folder,
            )
        return everything.sort().values


@hookimpl
def register_measurements(register: Callable[[str, type[Measurement]], None]) -> None:
    register("reference_rank", ReferenceRank)
