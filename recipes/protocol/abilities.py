"""What else the model can do, by lm-evaluation-harness: multiple choice, scored by the likelihood of each choice."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sources

PREFIX = "local_"


def local(name: str, folder: Path | None = None) -> dict[str, Any]:
    """A task of the harness whose items are a file: rows with `query`, `choices` and `gold`."""
    return {
        "task": PREFIX + name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(sources.path_of(name, folder))}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{query}}\nAnswer:",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "num_fewshot": 0,
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc",)],
    }


def measure(
    model: Any, tokenizer: Any, tasks: Sequence[str], limit: int | None, batch: int, folder: Path | None = None
) -> dict[str, dict[str, list[float]]]:
    """Of each task, for each item:

        correct[i] = 1 if argmax_c logP(choice_c | query_i) is the gold choice, else 0
        gold[i]    = log( P(gold_i) / sum_c P(choice_c | query_i) )        in nats, 0 is best

    Args:
        tasks: names of `sources.SOURCES`, else of the harness, whose data come from the hub then.
        limit: no more than so many items of each task, its first.
        batch: how many choices are scored at once.
    """
    if not tasks:
        return {}
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    wanted = [local(name, folder) if name in sources.SOURCES else name for name in tasks]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch)
        found = simple_evaluate(
            model=wrapped, tasks=wanted, task_manager=_task_manager(), limit=limit, bootstrap_iters=0, log_samples=True
        )
    assert found is not None  # None is for the other ranks of a distributed run, of which there are none here
    return {
        name.removeprefix(PREFIX): {
            "correct": [float(sample["acc"]) for sample in samples],
            "gold": [_log_share(sample) for sample in samples],
        }
        for name, samples in sorted(found["samples"].items())
        if "acc" in samples[0]
    }


def _log_share(sample: dict[str, Any]) -> float:
    scores = [float(answer[0]) for answer in sample["filtered_resps"]]
    highest = max(scores)
    total = highest + math.log(sum(math.exp(score - highest) for score in scores))
    return round(scores[int(sample["target"])] - total, 5)


@functools.cache
def _task_manager() -> Any:
    """Reading the harness's list of tasks takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager()
