"""Draws what `run.py` measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

AXES = {"tokens": "tokens of a sample", "vocabulary": "vocabulary", "batch": "samples of a step"}
COLOURS = ("#777777", "#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73", "#cc79a7")


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """One point: bars of time and memory. Several: seconds and peak memory against whatever varies."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    varying = [axis for axis in AXES if len({row[axis] for row in results}) > 1]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    if varying:
        _curves(axes, results, varying[0])
    else:
        _bars(axes, results[0])
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _curves(axes: Any, results: list[dict[str, Any]], over: str) -> None:
    names = list(dict.fromkeys(name for row in results for name in row["contenders"]))
    for axis, (key, label) in zip(axes, (("seconds", "seconds a step"), ("peak_mb", "peak memory, MB")), strict=True):
        for colour, name in zip(COLOURS, names, strict=False):
            rows = [row for row in results if name in row["contenders"]]
            values = [row["contenders"][name][key] for row in rows]
            axis.plot([row[over] for row in rows], values, marker="o", ms=4, color=colour, label=name)
        axis.set_xscale("log", base=2)
        axis.set_xticks([row[over] for row in results], [str(row[over]) for row in results], rotation=45)
        axis.minorticks_off()
        axis.set_xlabel(AXES[over])
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)


def _bars(axes: Any, row: dict[str, Any]) -> None:
    names = list(row["contenders"])[::-1]
    for axis, (key, label) in zip(axes, (("time_ratio", "time"), ("memory_ratio", "peak memory")), strict=True):
        values = [row["contenders"][name][key] for name in names]
        colours = ["#777777" if name in ("plain", "naive") else "#0072b2" for name in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8)
        axis.axvline(1, color="#777777", lw=0.8)
        axis.set_xlim(right=1.15 * max(values))
        axis.set_xlabel(f"{label}, relative to plain fine-tuning")
