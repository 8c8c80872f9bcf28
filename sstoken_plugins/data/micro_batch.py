"""A batch as the collator gives it, and what is known of its documents. Nothing else is handed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from .documents import Documents
from .index import BatchIndex
from .progress import Counts
from .weights import WEIGHTS

OWN_ENTRIES = "sstoken_"
"""Names of what lookups add to a batch begin so; the model does not get them."""
# Arguments of the loss, which is computed here and not by the model.
_LOSS_ARGUMENTS = frozenset(
    ("labels", "shift_labels", "num_items_in_batch", "fused_lm_head", "skip_logits", "return_token_accuracy",
     "use_token_scaling")
)  # fmt: skip


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass is made of.

    Attributes:
        inputs: as the collator gives them: `input_ids`, `labels`, ...
        documents: where they begin and end, and which tokens are prompt and response.
        from_data: whether it is a batch of the training data, and not one derived from it.
    """

    inputs: Mapping[str, Any]
    documents: Documents
    from_data: bool = True

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> MicroBatch:
        index = BatchIndex.carried_by(inputs)
        return cls(inputs, Documents.from_batch(inputs, None if index is None else index.indices))

    @property
    def input_ids(self) -> Tensor:
        """(B, S) int64."""
        ids: Tensor = self.inputs["input_ids"]
        return ids

    @property
    def labels(self) -> Tensor:
        """(B, S) int64, -100 where there is nothing to learn; not shifted."""
        labels: Tensor = self.inputs["labels"]
        return labels

    @property
    def weights(self) -> Tensor | None:
        """(B, S) float32 weights that come with the data; None if there are none."""
        return self.inputs.get(WEIGHTS)

    @cached_property
    def index(self) -> BatchIndex:
        """On the host. Where the data loader did not make it, this forces one device sync."""
        return BatchIndex.of(self.inputs)

    @property
    def has_index(self) -> bool:
        """Whether the data loader made the index, so that reading it does not wait for the device."""
        return BatchIndex.carried_by(self.inputs) is not None

    @property
    def counts(self) -> Counts:
        """On the host where the data loader made the index, and else where the batch is."""
        return Counts(self.index.lengths if self.has_index else self.documents.n_response)

    def model_inputs(self) -> dict[str, Any]:
        """What the model gets: neither the arguments of its loss nor what lookups added, and no cache."""
        ours = {
            name: value
            for name, value in self.inputs.items()
            if name not in _LOSS_ARGUMENTS and not name.startswith(OWN_ENTRIES)
        }
        return {**ours, "use_cache": False}
