"""Rows that a training has tokenised already, such as those that Axolotl prepares."""

from __future__ import annotations

from typing import Any

import numpy as np

from .data import Source
from .errors import AuditError
from .samples import Sample, Tokens

IDS, LABELS, IGNORED = "input_ids", "labels", -100


def is_tokenised(source: Source) -> bool:
    """Whether the rows are tokens with labels."""
    return {IDS, LABELS} <= source.row(0).keys()


def sample_of(ids: Any, labels: Any, number: int, tokenizer: Any) -> Sample:
    """The tokens as they are, and their text without special tokens.

    Args:
        ids, labels: (S,) int each; a label is the token itself, or -100 where it does not train.

    Raises:
        AuditError: if these are no labels of these tokens; the message is a clause.
    """
    try:
        tokens, targets = (np.asarray(values, np.int32) for values in (ids, labels))
    except (TypeError, ValueError) as error:
        raise AuditError("holds something else than numbers") from error
    if tokens.shape != targets.shape or tokens.ndim != 1:
        raise AuditError(f"has the shape {targets.shape}, where the tokens have {tokens.shape}")
    trains = targets != IGNORED
    if not np.array_equal(targets[trains], tokens[trains]):
        raise AuditError("has labels that are other tokens than those of the row")
    prompt, answer = (
        tokenizer.decode(part.tolist(), skip_special_tokens=True) for part in (tokens[~trains], tokens[trains])
    )
    response = trains.copy()
    response[:1] = False
    return Sample(number, prompt, answer, tokens=Tokens(tokens, response))
