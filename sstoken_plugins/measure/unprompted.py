"""What the history model says of an answer if its prompt is not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import IGNORE_INDEX, OWN_ENTRIES, Documents, MicroBatch
from ..errors import refused
from ..markers import hookimpl
from .base import IF_STORED, Measurement, OwnPass, Passes

HEADER = 4
"""How many tokens stay of what stands before an answer: where most chat formats say that one begins."""

# Derived from `position_ids` by transformers if they are missing, and wrong once tokens are taken out.
_LENGTHS = frozenset(("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"))


@dataclass(frozen=True)
class Unprompted:
    """A batch without its prompts: every row has what is left of it in front, and padding behind.

    Attributes:
        batch: (B, W) with W the most that is left of a row; documents have the same numbers as before.
    """

    batch: MicroBatch
    _indices: Tensor

    def back(self, values: Tensor) -> Tensor:
        """Values (B, W) of this batch where their tokens were, (B, S); any value off the response."""
        return values.gather(1, self._indices.clamp(max=values.shape[1] - 1))


def headers(documents: Documents) -> Tensor:
    """The last `HEADER` prompt tokens before each stretch of response: (B, S) bool."""
    ids, response = documents.ids, documents.response
    near = torch.zeros_like(response)
    for distance in range(1, min(HEADER, ids.shape[1] - 1) + 1):
        near[:, :-distance] |= response[:, distance:] & (ids[:, distance:] == ids[:, :-distance])
    return near & documents.prompt


def without_prompts(batch: MicroBatch) -> Unprompted:
    """Takes every document's prompt out of the batch, up to its `headers`.

    Padded rows, packed rows and padding-free rows stay what they are. This forces one device sync, for the
    width.

    Raises:
        Refused: naming an entry of the batch that this function cannot handle.
    """
    documents = batch.documents
    stays = documents.response | headers(documents)
    order = (~stays).to(torch.uint8).argsort(dim=1, stable=True)  # in their order, those that stay first
    counting = torch.arange(order.shape[1], device=order.device).expand_as(order)
    indices = torch.empty_like(order).scatter_(1, order, counting)
    width = max(1, int(stays.sum(1).max()))
    order = order[:, :width]
    left = stays.gather(1, order)

    def taken(values: Tensor, otherwise: int) -> Tensor:
        return torch.where(left, values.expand_as(stays).gather(1, order), otherwise)

    remaining = Documents(
        ids=taken(documents.ids, -1),
        prompt=taken(documents.prompt, 0).bool(),
        response=taken(documents.response, 0).bool(),
        indices=None if documents.indices is None else _moved(documents.indices, indices, width),
    )
    otherwise = {"labels": IGNORE_INDEX, "attention_mask": 0}
    kept: dict[str, Any] = {}
    for name, value in batch.inputs.items():
        if name.startswith(OWN_ENTRIES) or name in _LENGTHS or not isinstance(value, Tensor) or value.dim() == 0:
            continue
        if name == "position_ids":
            # A trailing 0 begins a document of its own, to the layouts that tell documents by their positions.
            kept[name] = torch.where(left, remaining.positions, 0)
        elif value.shape == stays.shape:
            kept[name] = taken(value, otherwise.get(name, 0))
        else:
            raise refused(
                "The batch has an entry {entry!r} of shape {shape}, and prompts cannot be taken out of that. Set "
                "{strategy} to one that does not compare answers with and without their prompt.",
                entry=name,
                shape=tuple(value.shape),
            )
    if "position_ids" not in kept and "attention_mask" not in kept:
        kept["attention_mask"] = left.long()  # rows of one length no longer are
    return Unprompted(MicroBatch(kept, remaining, from_data=False), indices)


def _moved(flat: Tensor, indices: Tensor, width: int) -> Tensor:
    rows = flat // indices.shape[1]
    return rows * width + indices.flatten()[flat]


class UnpromptedLogProbs(OwnPass):
    """`log p(token | answer before)` under the history model, without the prompt, in nats.

    One more pass of the history, over the answers alone.
    """

    needs = frozenset({"history"})
    cost = "one over the answers alone" + IF_STORED

    def measure(self, passes: Passes, batch: MicroBatch) -> Tensor:
        rest = without_prompts(batch)
        return rest.back(passes.measure("history", rest.batch))

    def compare(self, values: Tensor, known: Mapping[str, Tensor]) -> Tensor:
        # What nobody has recorded counts as no gain.
        return torch.where(values.isnan(), known["history"], values)


@hookimpl
def register_measurements(register: Callable[[str, type[Measurement]], None]) -> None:
    register("unprompted", UnpromptedLogProbs)
