"""Skill against old abilities: a point for each arm, in a panel for each condition; differences to plain training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

CONTROL, ARM = "#888888", "#0072b2"
WIDTH, HEIGHT = 4.7, 9
"""Of a letter, in points."""


def draw(found: pd.DataFrame, path: Path) -> None:
    """Writes the SVG, the same bytes for the same table.

    Args:
        found: of `report.differences`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from report import CONTROLS, PLAIN

    matplotlib.rcParams["svg.hashsalt"] = "protocol"
    second = "gold" if (found.measure == "gold").any() else "loss_tempered"
    conditions = list(dict.fromkeys(found.condition))
    figure, axes = plt.subplots(1, len(conditions), figsize=(4.6 * len(conditions), 4.2), squeeze=False)
    for axis, condition in zip(axes[0], conditions, strict=True):
        own = found[found.condition == condition].pivot(index="arm", columns="measure")
        axis.axhline(0, color="#cccccc", lw=0.8, zorder=0)
        axis.axvline(0, color="#cccccc", lw=0.8, zorder=0)
        points = []
        for arm, one in own.iterrows():
            x, y = one["difference", "skill"], one["difference", second]
            colour = CONTROL if arm in (PLAIN, *CONTROLS) else ARM
            x_reach, y_reach = (one["difference", measure] - one["low", measure] for measure in ("skill", second))
            axis.errorbar(x, y, xerr=x_reach, yerr=y_reach, fmt="o", ms=5, lw=0.6, color=colour)
            points.append((arm, (x, y), colour))
        axis.set_title(f"{condition} ({int(own['seeds'].max().max())} seeds)", fontsize=10)
        axis.set_xlabel("new skill, against plain fine-tuning", fontsize=8)
        axis.set_ylabel("log-probability of the tasks' gold choices" if second == "gold" else second, fontsize=8)
        axis.tick_params(labelsize=8)
        _name(axis, points)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _name(axis: Any, points: Sequence[tuple[str, tuple[float, float], str]]) -> None:
    """Names beside their points, one above the other where they would overlap."""
    axis.figure.tight_layout()
    scale = 72 / axis.figure.dpi
    placed: list[tuple[str, float, float]] = []
    places = {name: tuple(axis.transData.transform(point) * scale) for name, point, _ in points}
    for name, point, colour in sorted(points, key=lambda each: places[each[0]][1]):
        x, y = places[name]
        at = y
        while any(abs(at - beside) < HEIGHT and _meet(x, name, left, other) for other, left, beside in placed):
            at += 1
        placed.append((name, x, at))
        line = {"arrowstyle": "-", "lw": 0.4, "color": colour}
        axis.annotate(
            name, point, (14, at - y + 3), textcoords="offset points", fontsize=8, color=colour, arrowprops=line
        )


def _meet(x: float, name: str, left: float, other: str) -> bool:
    """Whether names that begin at these places would be over one another, were they in one line."""
    return x < left + WIDTH * len(other) and left < x + WIDTH * len(name)
