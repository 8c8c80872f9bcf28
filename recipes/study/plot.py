"""The study's figure."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd
from averages import SETTING, title, verdict
from conditions import CONDITIONS

PLOTTED = ("random", "sstoken", "trimmed", "grounded_1", "oracle")
STYLES = (("#888888", "D"), ("#d55e00", "s"), ("#0072b2", "o"), ("#009e73", "^"), ("#cc79a7", "v"), ("#000000", "x"))


def plot(averages: pd.DataFrame, path: Path) -> None:
    """How far each strategy's held-out loss is from plain fine-tuning's, in every setting."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "study"
    order = {name: number for number, name in enumerate(CONDITIONS)}
    settings = sorted((s for s, _ in averages.groupby(SETTING, sort=False)), key=lambda s: order[s[-1]])
    strategies = [name for name in PLOTTED if name in set(averages.strategy)]
    figure, axis = plt.subplots(figsize=(9, 0.11 * (len(strategies) + 1.5) * len(settings) + 1.6))
    step = 1 / (len(strategies) + 1.5)
    for number, strategy in enumerate(strategies):
        colour, marker = STYLES[number % len(STYLES)]
        axis.plot([], [], marker, color=colour, label=strategy)
        for _, row in averages[averages.strategy == strategy].iterrows():
            height = settings.index(tuple(row[SETTING])) + (number - (len(strategies) - 1) / 2) * step
            seen = verdict(row, "nll") != "same"
            axis.errorbar(
                row.nll_vs_full, height, xerr=row.nll_vs_full_half, fmt=marker, color=colour, ms=5, capsize=2, lw=1,
                mfc=colour if seen else "white",
            )  # fmt: skip
    for number in range(1, len(settings)):
        axis.axhline(number - 0.5, color="#dddddd", lw=0.8, zorder=0)
    axis.axvline(0, color="#444444", lw=0.9, zorder=0)
    axis.set_yticks(range(len(settings)), [title(setting).replace(": ", "\n") for setting in settings], fontsize=8)
    axis.set_ylim(len(settings) - 0.5, -0.5)
    means_shown = averages[averages.strategy.isin(PLOTTED)].nll_vs_full
    margin = 0.1 * (means_shown.max() - means_shown.min()) + 0.02
    axis.set_xlim(means_shown.min() - margin, means_shown.max() + margin)  # the longest intervals leave the plot
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel("better   <   held-out loss compared with plain fine-tuning, nats a token   >   worse", fontsize=9)
    axis.legend(fontsize=8, loc="upper right", title="filled: left after Holm's\ncorrection at 5 %", title_fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    plt.close(figure)
