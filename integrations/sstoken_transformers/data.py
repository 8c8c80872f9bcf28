"""Does the data have a prompt to pay attention to?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch

from sstoken_plugins import Documents, TokenSelector
from sstoken_plugins.errors import Naming, Problem, refuse

logger = logging.getLogger(__name__)

LOOKED_AT = 1000
ROWS = 500


def look_at_prompts(dataset: Any, selector: TokenSelector, naming: Naming, hint: str = "") -> None:
    """Says which share of the first samples, as they will be trained, has no prompt.

    Args:
        hint: what to do about it, in the framework's terms.

    Raises:
        Refused: if without a prompt nothing chooses their tokens.
    """
    n_without, n = count_without_prompt(dataset)
    found = list(judge_prompts(selector, n_without, n, hint, "the first {n}"))
    refuse(problem for stops, problem in found if stops)
    for _, problem in found:
        logger.warning("%s", problem.text(naming))


def judge_prompts(
    selector: TokenSelector, n_without: int, n: int, hint: str = "", which: str = "{n}"
) -> Iterator[tuple[bool, Problem]]:
    """What to say if `n_without` of `n` samples have no prompt: whether it stops the run, and the sentence.

    Args:
        which: the samples that were looked at.
    """
    if "attention" not in selector.needs or not n_without:
        return
    samples = ("All of" if n_without == n else "{n_without} of") + f" {which} samples"
    samples += " have no prompt (every token has a label, or every token but the first)"
    known = {"n": n, "n_without": n_without, "hint": f" {hint}" if hint else ""}
    stops = list(nothing_to_choose_by(selector, samples, known)) if n_without == n else []
    yield from ((True, problem) for problem in stops)
    if selector.plan.relies_on_prompt:
        then = ", and nothing else chooses among their tokens: the first ones train.{hint}"
    else:
        then = (
            ": their attention to it counts as 0, so the excess loss alone chooses their tokens "
            "(`sstoken/without_prompt` in the log).{hint}"
        )
    if not stops:
        yield False, Problem(f"{samples}{then}", **known)


def nothing_to_choose_by(selector: TokenSelector, which: str, known: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong where no sample has a prompt; `which` and its values `known` say of what, up to a comma."""
    if selector.plan.relies_on_prompt:
        yield Problem(
            f"{which}, but {{strategy}} {{method!r}} chooses the tokens by their attention to it alone: mark the "
            "prompt with -100 in `labels` or have the framework do it by the data's format and settings, or set "
            "{gamma} above 0 to choose by the excess loss too.{hint}",
            **{"hint": "", **known, "method": selector.config.strategy},
        )
    elif selector.history is not None:
        for problem in selector.history.problems(True):
            yield Problem(f"{which}. {problem.template}", **{**known, **problem.values})


def count_without_prompt(dataset: Any) -> tuple[int, int]:
    """Of the samples in the first rows: how many have no prompt, of how many that have something to learn."""
    if not hasattr(dataset, "select") or "labels" not in (dataset.column_names or ()):
        return 0, 0  # a stream, which has no first samples to look at without consuming them; or the collator's work
    n_without = n = 0
    for batch in batches(dataset.select(range(min(LOOKED_AT, len(dataset))))):
        documents = Documents.from_batch(batch)
        trains = documents.n_response > 0
        n_without += int((trains & ~documents.has_prompt).sum())
        n += int(trains.sum())
    return n_without, n


def batches(dataset: Any) -> Iterator[dict[str, torch.Tensor]]:
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
