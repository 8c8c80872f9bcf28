"""Counts the tokens of the training data, as the framework has prepared them and the selection would see them."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm

from sstoken_plugins import BatchIndex, Counts, Documents, TokenSelector
from sstoken_plugins.data import IGNORE_INDEX
from sstoken_transformers.data import ROWS, batches, judge_prompts

from .diagnosis import DataFacts, Diagnosis


def count(dataset: Any, selector: TokenSelector | None) -> DataFacts:
    """Of a `datasets.Dataset` with `input_ids` and `labels`; rows that are packed have `seq_lengths`."""
    history = selector.history if selector is not None else None
    facts = DataFacts(kept_tokens=None if selector is None else 0)
    for batch in tqdm(batches(dataset), "Counting tokens", -(-len(dataset) // ROWS), disable=None, leave=False):
        documents = Documents.from_batch(batch)
        ids = documents.ids.flatten()
        n_response = documents.n_response[: int(ids.max()) + 1]
        n_prompt = ids[batch["labels"].flatten() == IGNORE_INDEX].bincount(minlength=len(n_response))
        facts.samples += len(n_response)
        facts.without_prompt += int((~documents.has_prompt[: len(n_response)] & (n_response > 0)).sum())
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


def judge(found: Diagnosis, selector: TokenSelector | None, epochs: float | None, hint: str = "") -> None:
    """What the figures mean for this selection.

    Args:
        epochs: None where steps are counted instead.
        hint: how samples get a prompt, in the framework's terms.
    """
    data = found.data
    if data is not None:
        if data.left_out:
            found.note(f"{data.left_out} rows are not trained on: {found.framework} leaves them out.")
        if not data.response_tokens:
            found.add("No sample has a response token (a label), so there is nothing to train on.")
        elif data.without_response:
            found.note(f"{data.without_response} of {data.samples} samples have no response: they train nothing.")
        if selector is not None:
            n_training = data.samples - data.without_response
            for stops, sentence in judge_prompts(selector, data.without_prompt, n_training, hint):
                (found.add if stops else found.note)(sentence)
    if selector is not None and selector.history is not None:
        n_missing = None
        if data is not None and data.recorded is not None:
            n_missing = data.samples - data.without_response - data.recorded
        for stops, sentence in selector.history.outlook(n_missing, epochs):
            (found.add if stops else found.note)(sentence)
