"""The figure: skill against retention, a curve over the learning rate for each method."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
from table import final

STYLES = ("o", "s", "^", "v", "D", "P", "X", "<", ">")


def draw(table: pd.DataFrame, path: Path) -> None:
    """A panel for each regime and flaw. Lines: the tuning cells, a point for each learning rate, with the options
    that were chosen. Large marks: the cells that report, at the chosen rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = list(table.groupby(["regime", "flaw"], sort=False))
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    with plt.rc_context({"svg.hashsalt": "testbed", "font.size": 8}):
        figure, axes = plt.subplots(lines, columns, figsize=(3.4 * columns, 3 * lines), squeeze=False)
        arms = list(dict.fromkeys(table.arm))
        colours = {arm: plt.get_cmap("tab20")(i % 20) for i, arm in enumerate(arms)}
        for place in axes.flat[len(panels) :]:
            place.set_axis_off()
        for place, ((regime, flaw), group) in zip(axes.flat, panels, strict=False):
            for number, arm in enumerate(arms):
                style = {"color": colours[arm], "marker": STYLES[number % len(STYLES)]}
                _curve(place, group[group.arm == arm], style, arm)
            place.set_title(f"{regime}: {flaw}")
            place.set_xlim(-0.03, 1.03)
            place.set_ylim(-0.03, 1.03)
            place.grid(alpha=0.3)
        for place in axes[-1]:
            place.set_xlabel("exact match on old skills")
        for row in axes:
            row[0].set_ylabel("exact match on the new skill")
        handles = {label: h for ax in axes.flat for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(8, len(handles)))
        figure.tight_layout(rect=(0, 0.06 if lines > 1 else 0.14, 1, 1))
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)
    os.utime(path)


def curve(cells: pd.DataFrame) -> pd.DataFrame:
    """Of one arm, regime and flaw: `retention` and `skill` by learning rate, of the tuning cells with the options that
    were chosen."""
    options = set(final(cells).options) or set(cells.options[:1])
    tried = cells[(cells.role == "tuning") & cells.options.isin(options)]
    return tried.groupby("learning_rate")[["retention", "skill"]].mean().sort_index()


def _curve(place: object, cells: pd.DataFrame, style: dict[str, object], arm: str) -> None:
    reported, points = final(cells), curve(cells)
    place.plot(points.retention, points.skill, lw=0.8, ms=2.5, alpha=0.7, **style)
    if len(reported):
        place.plot(
            [reported.retention.mean()], [reported.skill.mean()], ls="", ms=7, mec="black", mew=0.5, label=arm, **style
        )
