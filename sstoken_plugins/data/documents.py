"""From a training batch of any layout to documents with prompt and response tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import refused

IGNORE_INDEX = -100


@dataclass(frozen=True)
class Documents:
    """The documents of a batch: padded rows, packed rows and padding-free rows all look alike from here on.

    A document's *response* tokens are those with a label that the model can predict, so never its first token: a
    document that begins with a labelled token does not train that one, in any layout. Its *prompt* tokens are all
    others: the question, and in a chat every turn that carries no label.

    Attributes:
        ids: (B, S) int64. Number of the document each token belongs to, counted over the whole batch; -1 on padding.
        prompt: (B, S) bool.
        response: (B, S) bool. Token `t` of a row is predicted from position `t - 1`, which is in the same document.
        indices: (T,) int64, of the response tokens in the flattened batch, where somebody knows them already.
    """

    ids: Tensor
    prompt: Tensor
    response: Tensor
    indices: Tensor | None = None

    @classmethod
    def from_batch(cls, inputs: Mapping[str, Any], indices: Tensor | None = None) -> Documents:
        """Reads `labels` and, where a collator gives them, `attention_mask` and `position_ids`."""
        documents = cls.from_labels(inputs["labels"], inputs.get("attention_mask"), inputs.get("position_ids"))
        return documents if indices is None else replace(documents, indices=indices)

    @classmethod
    def from_labels(
        cls, labels: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Documents:
        """Finds the documents of a batch.

        A document starts at the first token of a row, after padding, where `position_ids` do not go on counting
        (packed and padding-free rows), and where a numbered `attention_mask` (1, 1, 2, 2, 2, 0) changes.

        Args:
            labels: (B, S) int64, -100 where there is nothing to learn. Not shifted.
            attention_mask: (B, S), 0 on padding. Without it every token counts.
            position_ids: (B, S) or (1, S), or (4, B, S) with the positions in the text first.

        Raises:
            Refused: for masks and positions of another rank, which carry no documents this function could read.
        """
        if labels.dim() != 2:
            raise refused("`labels` has shape {shape}; expected (batch, sequence).", shape=tuple(labels.shape))
        starts = torch.zeros_like(labels, dtype=torch.bool)
        starts[:, 0] = True
        if attention_mask is None:
            real = torch.ones_like(starts)
        else:
            if attention_mask.shape != labels.shape:
                raise refused(
                    "`attention_mask` has shape {mask} and `labels` {labels}; token selection needs a mask with one "
                    "entry per token. For packed rows pass `position_ids` instead.",
                    mask=tuple(attention_mask.shape),
                    labels=tuple(labels.shape),
                )
            real = attention_mask != 0
            starts[:, 1:] |= attention_mask[:, 1:] != attention_mask[:, :-1]
        if position_ids is not None and position_ids.dim() == 3 and position_ids.shape[0] == 4:
            position_ids = position_ids[0]  # of models that see: in the text, then in time, height and width
        if position_ids is not None:
            if position_ids.dim() != 2 or position_ids.shape[-1] != labels.shape[-1]:
                raise refused(
                    "`position_ids` has shape {positions} and `labels` {labels}; token selection needs one position "
                    "per token (of several axes, the first of four).",
                    positions=tuple(position_ids.shape),
                    labels=tuple(labels.shape),
                )
            starts[:, 1:] |= position_ids[:, 1:] != position_ids[:, :-1] + 1
        starts &= real
        ids = torch.where(real, starts.flatten().cumsum(0).view_as(labels) - 1, -1)
        response = (labels != IGNORE_INDEX) & real & ~starts
        return cls(ids=ids, prompt=real & ~response, response=response)

    @property
    def response_indices(self) -> Tensor:
        """(T,) int64, the response tokens in the flattened batch. If unknown, this forces a device sync."""
        return self.response.flatten().nonzero()[:, 0] if self.indices is None else self.indices

    # Reductions have one slot for each token of the batch, the most documents there can be: the number of documents is
    # never read back from the device. Unused slots hold zeros.

    def sum(self, values: Tensor) -> Tensor:
        """Sum of `values` (B, S) over each document's response tokens: (B*S,), indexed by document number."""
        values = torch.where(self.response, values, 0)
        return values.new_zeros(values.numel()).index_add_(0, self._slots, values.flatten())

    def extrema(self, values: Tensor, eligible: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Smallest and largest of `values` (B, S) over each document's response tokens: (B*S,) each.

        Args:
            eligible: (B, S) bool, the response tokens that count; all if None.
        """
        counts = self.response if eligible is None else eligible
        flat, slots = values.flatten(), self._slots
        low = torch.where(counts, values, torch.inf).flatten()
        high = torch.where(counts, values, -torch.inf).flatten()
        empty = flat.new_zeros(flat.numel())
        return (
            empty.scatter_reduce(0, slots, low, "amin", include_self=False),
            empty.scatter_reduce(0, slots, high, "amax", include_self=False),
        )

    def broadcast(self, per_document: Tensor) -> Tensor:
        """Gives every token (B, S) the value (B*S,) of its document; padding gets that of document 0."""
        return per_document[self._slots].view_as(self.ids)

    @property
    def n_response(self) -> Tensor:
        """Number of response tokens of each document: (B*S,) int64."""
        return self.sum(torch.ones_like(self.ids))

    @property
    def has_prompt(self) -> Tensor:
        """Whether a token without label, other than its first, stands before a response token: (B*S,) bool.

        A document's first token is predicted by nothing, so it never trains, whether it has a label (padded rows) or
        lost it (packed ones). Of text with a label on every other token it alone is left to attend to, and tells
        nothing of a prompt.
        """
        index = torch.arange(self.ids.numel(), device=self.ids.device)
        inner = (self.prompt & (self.positions > 0)).flatten()
        never = index.new_full((index.numel(),), index.numel())
        first = never.scatter_reduce(0, self._slots, torch.where(inner, index, index.numel()), "amin")
        response = torch.where(self.response.flatten(), index, -1)
        last = torch.full_like(index, -1).scatter_reduce(0, self._slots, response, "amax")
        return first < last

    @property
    def question(self) -> Tensor:
        """(B, S) bool: the prompt, of documents that have one."""
        return self.prompt & self.broadcast(self.has_prompt)

    @property
    def positions(self) -> Tensor:
        """Position of each token in its document, from 0: (B, S) int64."""
        index = torch.arange(self.ids.numel(), device=self.ids.device)
        first = index.new_full((index.numel(),), index.numel())
        real = (self.ids >= 0).flatten()
        first = first.scatter_reduce(0, self._slots, torch.where(real, index, index.numel()), "amin")
        return index.view_as(self.ids) - self.broadcast(first)

    @property
    def _slots(self) -> Tensor:
        return self.ids.clamp(min=0).flatten()
