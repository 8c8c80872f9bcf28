"""Counts the tokens of the training data, as the framework has prepared them and the selection would see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from tqdm.auto import tqdm

from sstoken_plugins import BatchIndex, Counts, Documents, TokenSelector
from sstoken_plugins.data import IGNORE_INDEX

from .diagnosis import DataFacts, Diagnosis

ROWS = 500


def count(dataset: Any, selector: TokenSelector | None) -> DataFacts:
    """Of a `datasets.Dataset` with `input_ids` and `labels`; rows that are packed have `seq_lengths`."""
    history = selector.history if selector is not None else None
    facts = DataFacts(kept_tokens=None if selector is None else 0)
    for batch in tqdm(_batches(dataset), "Counting tokens", -(-len(dataset) // ROWS), disable=None, leave=False):
        documents = Documents.from_batch(batch)
        ids = documents.ids.flatten()
        n_response = documents.n_response[: int(ids.max()) + 1]
        n_prompt = ids[batch["labels"].flatten() == IGNORE_INDEX].bincount(minlength=len(n_response))
        facts.samples += len(n_response)
        facts.without_prompt += int((n_prompt == 0).sum())
        facts.without_response += int((n_response == 0).sum())
        facts.prompt_tokens += int(n_prompt.sum())
        facts.response_tokens += int(n_response.sum())
        n_kept = None
        if selector is not None:
            n_kept = selector.method.n_kept(Counts(n_response[n_response > 0]), selector.progress(0))
        facts.kept_tokens = (
            None if n_kept is None or facts.kept_tokens is None else facts.kept_tokens + int(n_kept.sum())
        )
        n_known = history.n_known(BatchIndex.of(batch)) if history is not None else None
        if n_known is not None:
            facts.recorded = (facts.recorded or 0) + n_known
    return facts


def judge(found: Diagnosis, selector: TokenSelector | None, epochs: float | None) -> None:
    """What the figures mean for this selection; `epochs` is None where steps are counted instead."""
    data = found.data
    if data is not None:
        if data.left_out:
            found.note(f"{data.left_out} rows are not trained on: {found.framework} leaves them out.")
        if not data.response_tokens:
            found.add("No sample has a response token (a label), so there is nothing to train on.")
        elif data.without_response:
            found.note(f"{data.without_response} of {data.samples} samples have no response: they train nothing.")
        if selector is not None and 0 < data.without_prompt < data.samples and "attention" in selector.needs:
            found.note(
                f"{data.without_prompt} of {data.samples} samples have no prompt: their tokens are chosen by the "
                "excess loss alone."
            )
    if selector is not None and selector.history is not None:
        n_missing = None
        if data is not None and data.recorded is not None:
            n_missing = data.samples - data.without_response - data.recorded
        for stops, sentence in selector.history.outlook(n_missing, epochs):
            (found.add if stops else found.note)(sentence)


def _batches(dataset: Any) -> Iterator[dict[str, torch.Tensor]]:
    """Some rows at a time, one behind the other in a single row, told apart by their positions."""
    columns = [name for name in ("input_ids", "labels", "seq_lengths") if name in dataset.column_names]
    for table in dataset.select_columns(columns).with_format("arrow").iter(batch_size=ROWS):
        ids, labels = (_values(table[name]) for name in ("input_ids", "labels"))
        if "seq_lengths" in columns:
            lengths = _values(table["seq_lengths"])
        else:
            lengths = torch.tensor(table["input_ids"].combine_chunks().value_lengths().to_pylist())
        if not len(ids):
            continue
        starts = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        yield {
            "input_ids": ids[None],
            "labels": labels[None],
            "position_ids": (torch.arange(len(ids)) - starts)[None],
        }


def _values(column: Any) -> torch.Tensor:
    """The numbers of an Arrow column of lists, one behind the other."""
    return torch.tensor(column.combine_chunks().flatten().to_numpy(zero_copy_only=False), dtype=torch.int64)
