"""The whole of it: read, score, check."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .data import Source, open_data
from .errors import AuditError
from .formats import Format, Renderer
from .processes import Processes
from .progress import Bar
from .registry import chosen
from .result import AuditResult, Finding
from .rows import Rows
from .tokenised import is_tokenised


def audit(
    dataset: Any,
    model: Any = None,
    tokenizer: Any = None,
    *,
    columns: Sequence[str] | None = None,
    split: str = "train",
    checks: Iterable[str] | None = None,
    skip: Iterable[str] = (),
    thresholds: Mapping[str, float] | None = None,
    max_length: int | None = 1024,
    batch_tokens: int | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    progress: bool = False,
    **loading: Any,
) -> AuditResult:
    """Looks for rows that do not belong into a data set for fine-tuning.

    In several processes (accelerate, torchrun), each scores a part of the rows, and all return the same.

    Args:
        dataset: path of a JSONL, JSON, Parquet or CSV file, hub name, `datasets.Dataset` or list of rows, with the
            columns prompt and completion, messages, question and answer, or input_ids and labels.
        model: a causal language model, or its name or folder; None: only the checks that read the text alone.
        tokenizer: of the model; needed if `model` is not a name; else another than the model's own.
        columns: names of the prompt's and the answer's column. They are put into the chat template, if there is one.
        checks: names of those to run; all by default.
        thresholds: by name of the check, where another than its default is wanted.
        max_length: tokens of a sample, as TRL's option of this name.
        batch_tokens: tokens of a batch.
        cache: folder in which scores are kept, so that an interrupted audit can go on.
        seed: of everything random.
        loading: `dtype`, `load_in_4bit`, `adapter`, `device`, of a model given by name.

    Raises:
        AuditError: naming what cannot be read or does not fit, before a model is loaded.
    """
    processes = Processes()
    source = open_data(dataset, split)
    if tokenizer is None and isinstance(model, (str, Path)) and is_tokenised(source):
        from .model import load_tokenizer

        tokenizer = load_tokenizer(str(model), loading.get("trust_remote_code", False))
    form = Format(source, columns, tokenizer)
    selected = chosen(checks, skip, thresholds or {}, model is not None)
    rows = Rows(source, form, seed=seed)
    with Bar("Reading", len(rows), progress) as bar:  # what is wrong with a row is said before a model is loaded
        for chunk in rows.chunks():
            bar.step(len(chunk.samples))
    about: dict[str, Any] = {
        "data": source.name,
        "n_rows": len(rows),
        "columns": list(form.columns),
        "seed": seed,
        "model": None,
    }
    with contextlib.ExitStack() as stack:
        if any(check.needs_model for check in selected):
            if isinstance(model, (str, Path)):
                from .model import load

                model, its_own = load(str(model), **{"device": processes.device, **loading})
                tokenizer = tokenizer or its_own
            elif tokenizer is None:
                raise AuditError("`tokenizer` is missing: give that of the model.")
            folder = Path(cache or processes.shared(stack.enter_context(tempfile.TemporaryDirectory())))
            rows = _scored(source, form, model, tokenizer, max_length, batch_tokens, folder, seed, progress, processes)
            about |= {"model": getattr(model.config, "_name_or_path", ""), "max_length": max_length}
        findings = []
        with Bar("Checking", len(selected), progress, "check") as bar:
            for check in selected:
                values = np.asarray(check.score(rows), float)
                findings.append(Finding(check, values, check.flag(values)))
                bar.step(1)
        processes.wait()  # before the main one takes a temporary folder away
    return AuditResult(Rows(source, form), findings, about)


def _scored(
    source: Source, form: Format, model: Any, tokenizer: Any, max_length: int | None, batch_tokens: int | None,
    cache: Path, seed: int, progress: bool, processes: Processes,
) -> Rows:  # fmt: skip
    from .model import BATCH_TOKENS, CPU_BATCH_TOKENS
    from .passes import Scorer
    from .scoring import Scoring, settings
    from .store import Store

    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and max_length is not None:
        max_length = min(max_length, limit)
    if batch_tokens is None:
        batch_tokens = CPU_BATCH_TOKENS if model.device.type == "cpu" else BATCH_TOKENS
    name = getattr(model.config, "_name_or_path", "")
    store = Store(cache, settings(model, tokenizer, name, max_length, seed))
    renderer = Renderer(tokenizer, form.kind, max_length)
    scorer = Scorer(model, batch_tokens)
    scoring = Scoring(Rows(source, form), renderer, scorer, store, seed)
    with Bar("Scoring", -(-len(source) // processes.count), progress) as bar:
        scoring.run(lambda rows, known: bar.step(rows), (processes.number, processes.count))
    processes.wait()
    return Rows(source, form, scoring.scores, scorer.vocabulary, tokenizer.all_special_tokens, seed)
