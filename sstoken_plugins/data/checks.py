"""Is a batch one that a model can be given? Asked on the host, before a device fails with an error of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import refused
from .documents import IGNORE_INDEX


def check_form(inputs: Mapping[str, Any]) -> None:
    """Raises:
    Refused: unless `input_ids` and `labels` are whole numbers of one shape (B, S). Reads no values.
    """
    for name in ("input_ids", "labels"):
        values = inputs.get(name)
        if not isinstance(values, Tensor):
            got = "missing" if values is None else f"a {type(values).__name__}"
            raise refused(
                "`{name}` of a micro-batch is {got}: the collator has to give a tensor of token ids.",
                name=name,
                got=got,
            )
        if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
            raise refused(
                "`{name}` of a micro-batch has dtype {dtype}, but token ids are whole numbers: correct the data or "
                "the collator.",
                name=name,
                dtype=values.dtype,
            )
        if values.dim() != 2 or values.shape != inputs["input_ids"].shape or values.numel() == 0:
            raise refused(
                "`{name}` of a micro-batch has shape {shape} and `input_ids` {ids}, but both have to be (batch, "
                "sequence), and not empty: correct the data or the collator.",
                name=name,
                shape=tuple(values.shape),
                ids=tuple(inputs["input_ids"].shape),
            )


def check_values(inputs: Mapping[str, Any], vocabulary: int) -> None:
    """Raises:
    Refused: naming the first token whose id or label is not in the vocabulary.
    """
    for name in ("input_ids", "labels"):
        values: Tensor = inputs[name]
        fine = (values >= 0) & (values < vocabulary)
        if name == "labels":
            fine = fine | (values == IGNORE_INDEX)
        if bool(fine.all()):
            continue
        row, column = (~fine).nonzero()[0].tolist()
        ids = inputs["input_ids"][row, :8].tolist()
        raise refused(
            "`{name}` of a micro-batch holds {value} in row {row}, position {column} (a row that begins with {ids}), "
            "but the model knows the tokens 0 to {last}{or_none}: the data were made with another tokenizer, or their "
            "`{name}` are damaged.",
            name=name,
            value=int(values[row, column]),
            row=row,
            column=column,
            ids=ids,
            last=vocabulary - 1,
            or_none=f", and {IGNORE_INDEX} for no label" if name == "labels" else "",
        )
