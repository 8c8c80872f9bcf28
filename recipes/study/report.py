"""From the cells of a study to one tidy table, a summary with confidence intervals, and a plot.

python recipes/study/report.py recipes/study/results
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

SETTINGS = ["data", "precision", "epochs", "condition", "strategy", "seed"]
# What is shown, and which way is better.
METRICS = {"nll": -1, "token_accuracy": 1, "final_exact": 1, "retention_nll": -1, "facts": 1}
CONTROL, MINIMUM_SEEDS = "full", 3


def tidy(folder: Path) -> pd.DataFrame:
    """One row for each cell."""
    rows: list[dict[str, Any]] = []
    for path in sorted((folder / "cells").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        cell, versions = content.pop("cell"), content.pop("versions")
        cell["options"] = json.dumps(cell["options"], sort_keys=True)
        rows.append({**cell, **content, **{f"version_{name}": value for name, value in versions.items()}})
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, and differences to plain fine-tuning with the same seed: mean and 95 % interval (t).

    A strategy has a row where at least three of its seeds have a control.
    """
    rows = []
    for setting, group in table.groupby(["data", "precision", "epochs", "condition"], sort=False):
        control = group[group.strategy == CONTROL].set_index("seed")
        for strategy, own in group.groupby("strategy", sort=False):
            own = own.set_index("seed")
            seeds = own.index.intersection(control.index)
            if len(seeds) < MINIMUM_SEEDS:
                continue
            row = dict(zip(SETTINGS, (*setting, strategy), strict=False)) | {"seeds": len(seeds)}
            for metric in METRICS:
                if metric not in own or own[metric].isna().any():
                    continue
                difference = own.loc[seeds, metric] - control.loc[seeds, metric]
                half = stats.t.ppf(0.975, len(seeds) - 1) * difference.std() / len(seeds) ** 0.5
                row |= {metric: own.loc[seeds, metric].mean(), f"{metric}_diff": difference.mean()}
                row |= {f"{metric}_half": half}
            for name in (
                "keep_rate",
                "corrupted",
                "corrupted_of_kept",
                "corrupted_of_dropped",
                "seconds",
                "memory_mb",
            ):
                if name in own:
                    row[name] = own.loc[seeds, name].mean()
            rows.append(row)
    return pd.DataFrame(rows)


def verdict(row: pd.Series, metric: str) -> str:
    """Whether a difference to plain fine-tuning is one: `better`, `worse`, or `same` where the interval holds 0."""
    difference, half = row[f"{metric}_diff"] * METRICS[metric], row[f"{metric}_half"]
    if row.strategy == CONTROL or abs(difference) <= half:
        return "same"
    return "better" if difference > 0 else "worse"


def markdown(means: pd.DataFrame) -> str:
    """The summary as a person reads it: one table for each condition."""
    parts = []
    for setting, group in means.groupby(["data", "precision", "epochs", "condition"], sort=False):
        metrics = [metric for metric in METRICS if metric in group and group[metric].notna().all()]
        data, precision, epochs, condition = setting
        parts += [f"## {condition.replace('_', ' ')} ({data}, {precision}, {epochs:g} epoch)\n"]
        parts += ["| strategy | seeds | " + " | ".join(metrics) + " | kept | corrupted of kept / dropped |"]
        parts += ["|---" * (len(metrics) + 4) + "|"]
        for _, row in group.sort_values("nll").iterrows():
            shown = [
                f"{row[metric]:.3f} ({row[f'{metric}_diff']:+.3f} ± {row[f'{metric}_half']:.3f}, {verdict(row, metric)})"
                if row.strategy != CONTROL
                else f"{row[metric]:.3f}"
                for metric in metrics
            ]
            noise = f"{row.get('corrupted_of_kept', 0):.1%} / {row.get('corrupted_of_dropped', float('nan')):.1%}"
            parts += [f"| {row.strategy} | {row.seeds} | " + " | ".join(shown) + f" | {row.keep_rate:.1%} | {noise} |"]
        parts += [""]
    return "\n".join(parts)


def plot(means: pd.DataFrame, path: Path) -> None:
    """How far each strategy's held-out loss is from plain fine-tuning's, with its interval."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = list(means.groupby(["data", "precision", "epochs", "condition"], sort=False))
    order = list(dict.fromkeys(means.strategy))[::-1]
    figure, axes = plt.subplots(
        1, len(groups), figsize=(3.2 * len(groups) + 1.5, 0.3 * len(order) + 1.6), sharey=True, squeeze=False
    )
    for axis, (setting, group) in zip(axes[0], groups, strict=True):
        for _, row in group.iterrows():
            word = verdict(row, "nll")
            colour = {"better": "#0072b2", "worse": "#d55e00", "same": "#777777"}[word]
            marker = {"better": "o", "worse": "s", "same": "D"}[word]
            half = 0 if row.strategy == CONTROL else row.nll_half
            axis.errorbar(
                row.nll_diff, order.index(row.strategy), xerr=half, fmt=marker, color=colour, capsize=3, ms=5
            )
        axis.axvline(0, color="#777777", lw=0.8, zorder=0)
        axis.set_title(setting[3].replace("_", " "))
        axis.set_yticks(range(len(order)), order)
        axis.grid(axis="x", alpha=0.3)
    figure.supxlabel(
        "held-out loss minus that of plain fine-tuning, nats a token (left is better; bars: 95 %)", fontsize=9
    )
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def report(folder: Path) -> None:
    """Writes study.csv and, where there are enough seeds, summary.md and summary.svg."""
    table = tidy(folder)
    if table.empty:
        print(f"No cells in {folder}.")
        return
    table.to_csv(folder / "study.csv", index=False)
    means = summary(table)
    if means.empty:
        print(
            f"Fewer than {MINIMUM_SEEDS} seeds of any strategy beside `{CONTROL}`: {folder / 'study.csv'} has the cells."
        )
        return
    text = markdown(means)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    plot(means, folder / "summary.svg")
    print(text)
    print(f"Written: {folder}/study.csv, summary.md, summary.svg")


if __name__ == "__main__":
    report(Path(sys.argv[1]))
