"""The second figure: how far each arm is from plain fine-tuning, for each kind of flaw."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from decisions import CONTROLS, by_arm
from inference import LEVEL

from . import svg
from .arms import FAMILIES, LOW, Arms

LEFT, TOP, CELL, LINE, GAP = 160, 132, 54, 23, 14
STEPS = (0.02, 0.1, 0.25, 0.5)
"""From which difference on a cell has the first to fourth shade."""


def draw(found: pd.DataFrame, arms: Arms, axis: str, heading: str, family: int) -> str:
    """A map of the differences of one regime in one measure; the methods by their mean, controls below them.

    Args:
        family: how many differences Holm's correction is over.
    """
    flaws = list(dict.fromkeys(found.flaw))
    cells = {flaw: by_arm(group) for flaw, group in found.groupby("flaw", sort=False)}
    own = found[found.measure == axis]
    means = own.groupby("arm").difference.mean().sort_values(ascending=False, kind="stable")
    methods = [arm for arm in means.index if arm not in (LOW, *CONTROLS)]
    groups = [[arm for arm in (LOW,) if arm in means.index], methods, [arm for arm in CONTROLS if arm in means.index]]
    width = LEFT + CELL * (len(flaws) + 1) + GAP + 22
    body = [
        svg.text(22, 30, heading, size=15, bold=True),
        svg.text(
            22,
            48,
            "Difference to plain fine-tuning with the same data and seeds, in shares of the items.",
            colour="muted",
        ),
        *_legend(width, family),
    ]
    columns = {flaw: LEFT + CELL * number for number, flaw in enumerate(flaws)}
    columns["mean"] = LEFT + CELL * len(flaws) + GAP
    for name, x in columns.items():
        body.append(
            svg.text(x + CELL / 2 - 4, TOP - 8, name.replace("_", " "), size=10.5, turn=-28, bold=name == "mean")
        )
    y = TOP
    plain = own.groupby("flaw", sort=False).plain.first()
    body.append(svg.text(LEFT - 10, y + 15.5, "plain fine-tuning", anchor="end", bold=True))
    for name, x in columns.items():
        value = plain.mean() if name == "mean" else plain[name]
        body += [
            svg.rectangle(x + 1, y + 1, CELL - 2, LINE - 2, "panel", radius=3),
            svg.text(x + CELL / 2, y + 15.5, f"{value:.2f}", anchor="middle", size=10.5),
        ]
    y += LINE + GAP
    for group in groups:
        for arm in group:
            body += _row(arm, y, arms, columns, cells, axis, float(means[arm]))
            y += LINE
        y += GAP if group else 0
    body += families(y + 8, arms, methods)
    return svg.drawing(width, y + 24, heading, body)


def _row(
    arm: str,
    y: float,
    arms: Arms,
    columns: dict[str, float],
    cells: dict[str, pd.DataFrame],
    axis: str,
    mean: float,
) -> list[str]:
    family = arms.family(arm)
    label = {LOW: "lower learning rate"}.get(arm, arm)
    body = [svg.text(LEFT - 10, y + 15.5, label, anchor="end", colour="muted" if arm in CONTROLS else "text")]
    if family:
        body.append(svg.rectangle(LEFT - 6, y + 3, 3, LINE - 6, family, radius=1.5))
    for name, x in columns.items():
        if name == "mean":
            body += _cell(x, y, mean, "")
        elif arm in cells[name].index:
            one = cells[name].loc[arm]
            body += _cell(x, y, float(one[axis]), str(one[f"{axis}_mark"]))
    return body


def _cell(x: float, y: float, value: float, mark: str) -> list[str]:
    shade = sum(abs(value) >= step for step in STEPS)
    colour = f"{'up' if value > 0 else 'down'}{shade}" if shade else "panel"
    ink = "on4" if shade == len(STEPS) else "text" if mark else "muted"
    if not mark and 2 <= shade < len(STEPS):
        ink = "text"
    parts = [
        svg.rectangle(x + 1, y + 1, CELL - 2, LINE - 2, colour, radius=3),
        svg.text(x + CELL / 2, y + 15.5, svg.signed(value), anchor="middle", size=10.5, colour=ink, bold=bool(mark)),
    ]
    if mark:
        parts.append(svg.point(x + CELL - 7, y + 7, ink, radius=2.2))
    return parts


def _legend(width: float, n: int) -> list[str]:
    """What the shades and the mark mean."""
    body = [
        svg.text(22, 66, f"Bold with a dot: p < {LEVEL} after Holm's correction over {n} differences.", colour="muted")
    ]
    size, top = 34, 24
    left = width - 22 - 9 * size
    names = [*(f"down{n}" for n in (4, 3, 2, 1)), "panel", *(f"up{n}" for n in (1, 2, 3, 4))]
    bounds = [*(-step for step in reversed(STEPS)), *STEPS]
    body += [svg.text(left, top - 6, "worse", size=10, colour="muted")]
    body += [svg.text(left + 9 * size, top - 6, "better", size=10, colour="muted", anchor="end")]
    for number, name in enumerate(names):
        body.append(svg.rectangle(left + number * size, top, size - 1, 12, name))
    for number, bound in enumerate(bounds, start=1):
        shown = f"{bound:+g}".replace("-", "\N{MINUS SIGN}")
        body.append(svg.text(left + number * size, top + 24, shown, size=9, colour="muted", anchor="middle"))
    return body


def families(y: float, arms: Arms, shown: Sequence[str]) -> list[str]:
    """What the colours of the methods mean, in one line."""
    body, x = [], 22.0
    present = {arms.family(arm) for arm in shown}
    for name, words in FAMILIES.items():
        if name in present:
            body += [
                svg.rectangle(x, y - 9, 3, 11, name, radius=1.5),
                svg.text(x + 8, y, words, size=10.5, colour="muted"),
            ]
            x += 8 + len(words) * 10.5 * svg.CHARACTER + 18
    return body
