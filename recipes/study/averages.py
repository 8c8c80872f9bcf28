"""From the cells to one tidy table, and to differences with their intervals and Holm's correction."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from items import WEIGHTS

sys.path.append(str(Path(__file__).parents[1] / "evidence"))
from inference import crossed, holm, mark, paired

SETTING = ["data", "samples", "epochs", "precision", "condition"]
# What is shown, under which heading, and which way is better.
METRICS = {
    "nll": ("held-out loss", -1),
    "token_accuracy": ("token accuracy", 1),
    "final_exact": ("final number", 1),
    "exact_match": ("exact match", 1),
    "unrelated_nll": ("loss on unrelated text", -1),
    "facts_nll": ("loss on facts", -1),
}
PLAIN, PAPER = "full", "sstoken"
NOT_CANDIDATES = ("full", "random", "oracle")
MINIMUM_SEEDS = 3
ITEMS = "items_"
"""In front of a metric: the column of its items, a list in JSON. Cells of before items were written have none."""


def tidy(cells: Path) -> pd.DataFrame:
    """One row for each cell.

    Args:
        cells: the folder that run.py wrote to, or a study.csv.
    """
    if cells.is_file():
        return pd.read_csv(cells)
    rows: list[dict[str, Any]] = []
    for path in sorted((cells / "cells").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        cell, versions, items = content.pop("cell"), content.pop("versions"), content.pop("items", {})
        cell["options"] = json.dumps(cell["options"], sort_keys=True)
        lists = {f"{ITEMS}{name}": json.dumps([float(f"{x:.6g}") for x in values]) for name, values in items.items()}
        rows.append(
            {"name": path.stem, **cell, **content, **{f"version_{n}": v for n, v in versions.items()}, **lists}
        )
    return pd.DataFrame(rows)


def means(table: pd.DataFrame) -> pd.DataFrame:
    """For each setting and strategy: means over the seeds that plain fine-tuning has too, and differences.

    `nll_vs_full` is the mean over seeds of the difference to plain fine-tuning with the same seed, `nll_vs_full_half`
    the half-width of its 95 % interval, `nll_vs_full_p` its p-value, and `nll_vs_full_holm` that after Holm's
    correction over all settings and strategies of that metric; `_vs_sstoken` likewise. `nll_items` says over how many
    items beside the seeds; 0: over seeds only. A setting without both controls, and a strategy of fewer than three
    seeds, has no row.
    """
    rows = []
    for setting, group in table.groupby(SETTING, sort=False):
        by_strategy = {name: own.set_index("seed") for name, own in group.groupby("strategy", sort=False)}
        if not {"full", "random"} <= by_strategy.keys():
            continue
        for strategy, own in by_strategy.items():
            seeds = own.index.intersection(by_strategy[PLAIN].index)
            if len(seeds) < MINIMUM_SEEDS:
                continue
            row: dict[str, Any] = dict(zip(SETTING, setting, strict=True)) | {
                "strategy": strategy,
                "seeds": len(seeds),
            }
            for metric in METRICS:
                if own[metric].isna().any() if metric in own else True:
                    continue
                row[metric] = own.loc[seeds, metric].mean()
                for control in (PLAIN, PAPER):
                    if control in by_strategy and control != strategy:
                        row |= _difference(own, by_strategy[control], metric, control)
            for name in ("keep_rate", "corrupted", "corrupted_of_kept", "corrupted_of_dropped", "memory_mb"):
                row[name] = own.loc[seeds, name].astype(float).mean()
            row["cpu"] = (own.cpu_seconds / by_strategy[PLAIN].cpu_seconds).loc[seeds].mean()
            row["cpu_seconds"] = own.loc[seeds, "cpu_seconds"].mean()
            rows.append(row)
    averages = pd.DataFrame(rows)
    for column in [name for name in averages if name.endswith("_p")]:
        averages[f"{column.removesuffix('_p')}_holm"] = holm(averages[column])
    return averages


def _difference(own: pd.DataFrame, control: pd.DataFrame, metric: str, name: str) -> dict[str, float]:
    """Crossed over seeds and items where both have the items, else over seeds only."""
    both = (own[metric] - control[metric]).dropna() if metric in control else pd.Series(dtype=float)
    if len(both) < MINIMUM_SEEDS:
        return {}
    ours, theirs = (_items(cells.loc[both.index], metric) for cells in (own, control))
    if ours is None or theirs is None or ours[0].shape != theirs[0].shape:
        found, n_items = paired(both.to_numpy()), 0
    else:
        found, n_items = crossed(ours[0] - theirs[0], ours[1]), ours[0].shape[1]
    column = f"{metric}_vs_{name}"
    half = found["high"] - found["difference"]
    return {column: found["difference"], f"{column}_half": half, f"{column}_p": found["p"], f"{metric}_items": n_items}


def _items(cells: pd.DataFrame, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(seeds, items) of a metric and (items,) of what an item counts; None unless all cells have them."""
    columns = [f"{ITEMS}{name}" for name in (metric, WEIGHTS.get(metric)) if name]
    if any(column not in cells or cells[column].isna().any() for column in columns):
        return None
    values, *weights = ([json.loads(each) for each in cells[column]] for column in columns)
    if len({len(each) for each in values}) > 1:
        return None
    return np.array(values, dtype=float), np.array(weights[0][0] if weights else [1.0] * len(values[0]), dtype=float)


def verdict(row: Any, metric: str, control: str = PLAIN) -> str:
    """What is shown of a difference to the control after Holm: `better`, `worse`, `same` if nothing, or `unknown`."""
    if row["strategy"] == control:
        return "same"
    difference = row.get(f"{metric}_vs_{control}")
    if difference is None or pd.isna(difference):
        return "unknown"
    found = pd.Series({"difference": difference, "holm": row[f"{metric}_vs_{control}_holm"]})
    return mark(found, METRICS[metric][1]) or "same"


def uncorrected(row: Any, metric: str, control: str = PLAIN) -> str:
    """As `verdict`, without a correction: whether the 95 % interval leaves out 0."""
    difference, half = row.get(f"{metric}_vs_{control}"), row.get(f"{metric}_vs_{control}_half")
    if row["strategy"] == control or difference is None or pd.isna(difference) or abs(difference) <= half:
        return "same"
    return "better" if difference * METRICS[metric][1] > 0 else "worse"


def title(setting: Sequence[Any]) -> str:
    data, samples, epochs, precision, condition = setting
    data = {"gsm8k": f"{samples} answers of GSM8K"}.get(data, f"{samples} {data}")
    precision = {"bfloat16": "", "4bit": ", 4-bit"}.get(precision, f", {precision}")
    return f"{condition.replace('_', ' ')}: {data}{precision}, {epochs:g} epoch{'s' if epochs != 1 else ''}"
