"""Counts the tokens of the training data, as the framework has prepared them and the selection would see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from tqdm.auto import tqdm

from sstoken_plugins import Documents, TokenSelector
from sstoken_plugins.documents import IGNORE_INDEX
from sstoken_plugins.histories.last_visit import LastVisitHistory
from sstoken_plugins.histories.recorded import RecordedHistory
from sstoken_plugins.store import BatchIndex

from .diagnosis import DataFacts, Diagnosis

ROWS = 500


def count(dataset: Any, selector: TokenSelector | None) -> DataFacts:
    """Of a `datasets.Dataset` with `input_ids` and `labels`; rows that are packed have `seq_lengths`."""
    store = selector.history.store if selector and isinstance(selector.history, RecordedHistory) else None
    facts = DataFacts(kept_tokens=None if selector is None else 0, recorded=None if store is None else 0)
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
        n_kept = None if selector is None else selector.strategy.n_kept(n_response)
        facts.kept_tokens = None if n_kept is None else facts.kept_tokens + int(n_kept.sum())
        if store is not None:
            index = BatchIndex.of(batch)
            facts.recorded += len(index) - store.get(index)[1]
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
        missing = data.samples - data.without_response - (data.recorded or 0)
        if selector is not None and data.recorded is not None and missing:
            _judge_missing(found, selector, missing)
    if selector is not None and isinstance(selector.history, LastVisitHistory) and epochs is not None and epochs <= 1:
        found.note(
            f"`history` is 'last_visit', which compares with an epoch ago, but the run has {epochs:g}: no sample is "
            "seen twice."
        )


def _judge_missing(found: Diagnosis, selector: TokenSelector, missing: int) -> None:
    config = selector.config
    where = f"{missing} samples are not in the store {config.history_store}"
    if config.history_record:
        found.note(f"{where}: they are recorded before the first step.")
    elif config.history_strict:
        found.add(f"`history_strict` is True and {where}: run `sstoken record`, or set `history_record` to True.")
    else:
        found.note(f"{where}: their history is computed while training, or, without an adapter, left out.")


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
