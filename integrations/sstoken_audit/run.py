"""The whole of it: read, score, check."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    history: str | Path | None = None,
    reads_history: bool = True,
    autocast: str = "no",
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
        batch_tokens: tokens of a pass.
        cache: folder in which scores are kept, so that an interrupted audit can go on.
        history: the store of a training with history 'recorded': rows are left there, so that the training need not
            record them, and those that it knows are not scored again.
        reads_history: whether the second half of that is wanted. The store knows no entropy.
        autocast: "no", "bf16" or "fp16".
        seed: of everything random.
        loading: of a model given by name: `dtype`, `load_in_4bit`, `adapter`, `device`, and arguments of
            `from_pretrained`.

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
            options = Options(
                max_length, batch_tokens, folder, None if history is None else Path(history), reads_history, autocast
            )
            rows, used = _scored(source, form, model, tokenizer, options, seed, progress, processes)
            about |= {"model": getattr(model.config, "_name_or_path", ""), "max_length": max_length, **used}
        findings = []
        with Bar("Checking", len(selected), progress, "check") as bar:
            for check in selected:
                values = np.asarray(check.score(rows), float)
                findings.append(Finding(check, values, check.flag(values)))
                bar.step(1)
        processes.wait()  # before the main one takes a temporary folder away
    return AuditResult(Rows(source, form), findings, about)


@dataclass(frozen=True)
class Options:
    """How rows are scored: see `audit`."""

    max_length: int | None
    batch_tokens: int | None
    cache: Path
    history: Path | None
    reads_history: bool
    autocast: str


def _scored(
    source: Source, form: Format, model: Any, tokenizer: Any, options: Options, seed: int, progress: bool,
    processes: Processes,
) -> tuple[Rows, dict[str, Any]]:  # fmt: skip
    """The rows with their scores, and what there is to say of how those were made."""
    from sstoken_plugins.model.adapters import has_adapter

    from .history import HistoryStore
    from .model import BATCH_TOKENS, CPU_BATCH_TOKENS
    from .scorer import Scorer
    from .scoring import Scoring, settings
    from .store import Store

    history = None
    if options.history is not None:
        if has_adapter(model):
            raise AuditError(
                f"--history is {options.history}, and the model has an adapter: a history is of a model without one."
            )
        history = HistoryStore(options.history, model, tokenizer, options.autocast)
    reads = options.reads_history and history is not None and len(history) > 0
    max_length = options.max_length
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and max_length is not None:
        max_length = min(max_length, limit)
    batch_tokens = options.batch_tokens or (CPU_BATCH_TOKENS if model.device.type == "cpu" else BATCH_TOKENS)
    scorer = Scorer(model, batch_tokens, options.autocast)
    name = getattr(model.config, "_name_or_path", "")
    others = {"autocast": options.autocast, "packed": scorer.packs, "history": reads}
    store = Store(options.cache, settings(model, tokenizer, name, max_length, seed, **others))
    renderer = Renderer(tokenizer, form.kind, max_length)
    scoring = Scoring(Rows(source, form), renderer, scorer, store, seed, history=history, reads_history=reads)
    with Bar("Scoring", -(-len(source) // processes.count), progress) as bar:
        scoring.run(lambda rows, known: bar.step(rows), (processes.number, processes.count))
    processes.wait()
    return Rows(source, form, scoring.scores, scorer.vocabulary, tokenizer.all_special_tokens, seed), others
