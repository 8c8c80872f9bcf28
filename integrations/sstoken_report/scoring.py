"""What would be selected of the samples now."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sstoken_plugins import Selection, TokenSelector, __version__
from sstoken_plugins.strategies import SSToken

from .samples import Samples
from .table import Report

FIELDS = ("log_prob", "history_log_prob", "attention", "prompt_gain", "entropy", "score")


def score(trainer: Any, selector: TokenSelector, samples: Samples, step: int) -> Report:
    """Scores the samples exactly as a training step would, and leaves no trace in the training.

    All processes have to call it together.
    """
    model = trainer.model_wrapped if trainer.is_fsdp_enabled else trainer.model
    was_training = model.training
    model.train()
    values: dict[str, list[Tensor]] = {name: [] for name in (*FIELDS, "weight")}
    try:
        for batch in tqdm(
            samples.batches,
            desc=f"Scoring {len(samples)} samples for the report",
            unit="batch",
            leave=False,
            disable=trainer.args.disable_tqdm or not trainer.accelerator.is_local_main_process,
        ):
            inputs = trainer._prepare_inputs(batch)
            with trainer.accelerator.autocast():
                selection = selector.inspect(model, inputs, step)
            for name, value in _values(selector, selection).items():
                values[name].append(value)
    finally:
        model.train(was_training)
    columns = dict(samples.columns)
    for name, parts in values.items():
        columns[name] = np.where(columns["response"], samples.arranged(parts), np.float32("nan"))
    columns["rel"] = columns["log_prob"] - columns["history_log_prob"]
    columns["rank"] = _rank(columns)
    return Report(columns, _about(trainer, selector, step, columns))


def _values(selector: TokenSelector, selection: Selection) -> dict[str, Tensor]:
    scores = selection.scores
    found = {
        "log_prob": scores.log_probs,
        "history_log_prob": scores.history_log_probs,
        "attention": scores.attention,
        "prompt_gain": selection.signals.get("prompt_gain"),
        "entropy": scores.entropy,
        "score": None,
        "weight": selection.weights,
    }
    if hasattr(selector.strategy, "score"):
        found["score"] = selector.strategy.score(selection.signals, scores.documents, scores.step)
    unknown = torch.full_like(selection.weights, torch.nan)
    return {name: unknown if value is None else value.float() for name, value in found.items()}


def _rank(columns: dict[str, np.ndarray]) -> np.ndarray:
    """By score; the earlier token wins a tie."""
    rank = np.zeros(len(columns["score"]), np.int32)
    ranked = np.flatnonzero(columns["response"] & ~np.isnan(columns["score"]))
    sample = columns["sample"][ranked]
    order = np.lexsort((columns["position"][ranked], -columns["score"][ranked], sample))
    first = np.flatnonzero(np.diff(sample[order], prepend=-1))
    counts = np.diff(first, append=len(ranked))
    rank[ranked[order]] = np.arange(1, len(ranked) + 1) - np.repeat(first, counts)
    return rank


def _about(trainer: Any, selector: TokenSelector, step: int, columns: dict[str, np.ndarray]) -> dict[str, Any]:
    config, strategy = selector.config, selector.strategy
    gamma = strategy.gamma(step) if isinstance(strategy, SSToken) else None
    ranked = not np.isnan(columns["score"][columns["response"]]).all()
    notes = []
    rel = columns["rel"][columns["response"]]
    if len(rel) and not rel.any():
        notes.append(
            "REL is 0 everywhere: the model is still the same as its history, as before the first step. The selection "
            "follows the attention alone."
            if gamma is not None and gamma < 1
            else "REL is 0 everywhere: the model is still the same as its history, as before the first step."
        )
    if gamma is not None and gamma != config.gamma:
        notes.append(
            f"The attention alone decides until step {config.rel_warmup_steps} (`rel_warmup_steps`), then `gamma` is "
            f"{config.gamma:g}."
        )
    return {
        "version": __version__,
        "step": step,
        "config": config.to_dict(),
        "summary": config.summary(),
        "gamma": gamma,
        "rho": config.rho,
        # "sstoken": by rho and gamma; "score": by rho; None: not at all, a plugin weighs the tokens.
        "reselect": ("sstoken" if gamma is not None else "score") if ranked else None,
        "model": getattr(trainer.model.config, "_name_or_path", ""),
        "notes": notes,
    }
