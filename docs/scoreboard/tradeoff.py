"""The first figure: the new skill against the old ones, over the learning rate and for each arm."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pandas as pd
from compare import PLAIN
from decisions import CONTROLS, Decision
from figure import curve

from . import svg
from .arms import FAMILIES, LOW, Arms

EDGE, SLOT_X, SLOT_Y, TOP = 22, 214, 192, 66
SIDE_X, SIDE_Y = 168, 140
"""Of a small panel."""
DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (0.7, -0.7), (0.7, 0.7), (-0.7, -0.7), (-0.7, 0.7))
"""In which a label may be, the best first."""
SHAPE = {"oracle": "star", "trusted": "diamond", "random": "square"}
LABELS = 3
"""How many arms a small panel names."""


class Panel:
    """Maps retention to x and skill to y."""

    def __init__(
        self, left: float, top: float, width: float, height: float, x: tuple[float, float], y: tuple[float, float]
    ) -> None:
        self.left, self.top, self.width, self.height, self.x, self.y = left, top, width, height, x, y
        self.taken: list[tuple[float, float, float, float]] = []
        """Boxes of labels and points: (left, top, right, bottom)."""

    def at(self, retention: float, skill: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = self.x, self.y
        return (
            self.left + self.width * (retention - x0) / (x1 - x0),
            self.top + self.height * (1 - (skill - y0) / (y1 - y0)),
        )

    def frame(
        self, origin: tuple[float, float], ticks_x: list[float], ticks_y: list[float], sign: bool = False
    ) -> Iterator[str]:
        """Ground and grid, with what is better in both than `origin` (retention, skill) in a colour of its own."""
        yield svg.rectangle(self.left, self.top, self.width, self.height, "panel", radius=3)
        x, y = self.at(*origin)
        yield svg.rectangle(x, self.top, max(0, self.left + self.width - x), max(0, y - self.top), "better")
        for tick in ticks_x:
            x, _ = self.at(tick, 0)
            yield svg.line([(x, self.top), (x, self.top + self.height)], "grid", 0.7)
            yield svg.text(x, self.top + self.height + 13, _tick(tick, sign), size=9, colour="muted", anchor="middle")
        for tick in ticks_y:
            _, y = self.at(0, tick)
            yield svg.line([(self.left, y), (self.left + self.width, y)], "grid", 0.7)
            yield svg.text(self.left - 5, y + 3, _tick(tick, sign), size=9, colour="muted", anchor="end")

    def curve(self, points: pd.DataFrame, width: float) -> Iterator[str]:
        """A line through `retention` and `skill`, which labels keep off."""
        corners = [self.at(*pair) for pair in points[["retention", "skill"]].itertuples(index=False)]
        yield svg.line(corners, "plain", width, alpha=0.55)
        for (x0, y0), (x1, y1) in itertools.pairwise(corners):
            for part in range(21):
                self.occupy(x0 + (x1 - x0) * part / 20, y0 + (y1 - y0) * part / 20, 1)

    def occupy(self, x: float, y: float, radius: float) -> None:
        self.taken.append((x - radius, y - radius, x + radius, y + radius))

    def label(self, x: float, y: float, words: str, colour: str, size: float, bold: bool = False) -> Iterator[str]:
        """Where there is room near the point; a thin line leads to it from further off. No room, no label."""
        width, height = len(words) * size * (svg.CHARACTER + 0.06 * bold) + 2, size
        for far, (dx, dy) in itertools.product((7, 13, 20, 28, 38, 50, 64), DIRECTIONS):
            anchor = "end" if dx < 0 else "middle" if dx == 0 else "start"
            place = x + far * dx
            left = place - {"end": width, "middle": width / 2, "start": 0}[anchor]
            top = y + far * dy - height / 2
            box = (left, top, left + width, top + height)
            if self._has(box) and not any(_overlap(box, other) for other in self.taken):
                self.taken.append(box)
                if far > 13:
                    end = (place - 2 * dx, y + (far - 2) * dy - (height / 2 * dy if dx == 0 else 0))
                    yield svg.line([(x, y), end], colour, 0.6, alpha=0.7)
                yield svg.text(place, box[3] - 2, words, size=size, colour=colour, bold=bold, anchor=anchor)
                return

    def _has(self, box: tuple[float, float, float, float]) -> bool:
        left, top, right, bottom = box
        return (
            left >= self.left + 2
            and top >= self.top + 2
            and right <= self.left + self.width - 2
            and bottom <= self.top + self.height - 2
        )


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _tick(value: float, sign: bool) -> str:
    return (f"{value:+g}" if sign and value else f"{value:g}").replace("-", "\N{MINUS SIGN}")


def draw(table: pd.DataFrame, decided: list[Decision], arms: Arms) -> str:
    """The mean over all kinds of data, large, with every arm's name; and each kind small."""
    title = "New skill against old skills"
    slots = [(2, 0), (3, 0), (2, 1), (3, 1), *((x, y) for y in range(2, 99) for x in range(4))]
    places = slots[: len(decided) + 1]
    body = [
        svg.text(EDGE, 30, title, size=15, bold=True),
        svg.text(
            EDGE,
            48,
            "Exact match: up, the new skill; to the right, the old skills. Points: arms as tuned, means over seeds. "
            "Line: plain fine-tuning, by learning rate.",
            colour="muted",
        ),
        *_mean(table, decided, arms),
    ]
    for (column, row), one in zip(places, decided, strict=False):
        body += _small(table, one, arms, EDGE + 24 + column * SLOT_X, TOP + 24 + row * SLOT_Y)
    column, row = places[-1]
    body += _legend(EDGE + 16 + column * SLOT_X, TOP + 24 + row * SLOT_Y, arms)
    rows = max(2, *(row + 1 for _, row in places))
    return svg.drawing(EDGE * 2 + SLOT_X * 4 - 6, TOP + SLOT_Y * rows + 6, title, body)


def _plain_curve(table: pd.DataFrame, flaw: str) -> pd.DataFrame:
    """Plain fine-tuning over all learning rates that it was tried with."""
    cells = table[(table.flaw == flaw) & table.arm.isin((PLAIN, LOW))]
    return pd.concat([curve(own) for _, own in cells.groupby("arm")]).groupby(level=0).mean().sort_index()


def _small(table: pd.DataFrame, one: Decision, arms: Arms, left: float, top: float) -> Iterator[str]:
    panel = Panel(left, top, SIDE_X, SIDE_Y, (-0.03, 1.03), (-0.03, 1.03))
    yield svg.text(left, top - 7, one.flaw.replace("_", " "), size=11.5, bold=True)
    yield from panel.frame((one.retention, one.skill), [0, 0.5, 1], [0, 0.5, 1])
    yield from panel.curve(_plain_curve(table, one.flaw), 1.1)
    named = {*one.for_skill.index[:LABELS], *one.for_retention.index[:LABELS]} - {LOW}
    order = sorted(one.arms.index, key=lambda arm: (arm in named, arm == "oracle"))
    marks = {arm: panel.at(one.retention + own.retention, one.skill + own.skill) for arm, own in one.arms.iterrows()}
    for arm in order:
        yield _mark(*marks[arm], arm, arms, 4 if arm in named else 3)
    x, y = panel.at(one.retention, one.skill)
    yield svg.point(x, y, "plain", radius=4.5, title="plain fine-tuning")
    for x_taken, y_taken in (*marks.values(), (x, y)):
        panel.occupy(x_taken, y_taken, 3)
    for arm in order:
        if arm in named:
            yield from panel.label(*marks[arm], arm, arms.family(arm), 10, bold=True)


def _mark(x: float, y: float, arm: str, arms: Arms, radius: float) -> str:
    if arm in CONTROLS:
        return svg.point(x, y, "muted", radius=radius * 0.9, shape=SHAPE[arm], hollow=True, title=arm)
    return svg.point(x, y, arms.family(arm) or "plain", radius=radius, hollow=arm == LOW, title=arm)


def _mean(table: pd.DataFrame, decided: list[Decision], arms: Arms) -> Iterator[str]:
    """Differences to plain fine-tuning, their mean over the kinds of data that an arm has."""
    shown = pd.concat([one.arms[["skill", "retention"]] for one in decided]).groupby(level=0, sort=False).mean()
    curves = {one.flaw: _plain_curve(table, one.flaw) for one in decided}
    tuned = {
        flaw: curve(table[(table.flaw == flaw) & (table.arm == PLAIN)]).reindex(own.index)
        for flaw, own in curves.items()
    }
    rate = {one.flaw: _chosen_rate(table, one.flaw) for one in decided}
    relative = [
        own - tuned[flaw].loc[rate[flaw]]
        for flaw, own in curves.items()
        if len(own) and rate[flaw] in tuned[flaw].index
    ]
    path = pd.concat(relative).groupby(level=0).mean().sort_index() if relative else pd.DataFrame()
    everything = pd.concat([shown, path])
    spans = {}
    for axis in ("retention", "skill"):
        low, high = min(0, everything[axis].min()), max(0, everything[axis].max())
        spans[axis] = (low - 0.08 * (high - low), high + 0.08 * (high - low))
    panel = Panel(EDGE + 24, TOP + 24, SIDE_X + SLOT_X - 6, SIDE_Y + SLOT_Y, spans["retention"], spans["skill"])
    yield svg.text(
        panel.left,
        panel.top - 7,
        f"mean over the {len(decided)} kinds of data: difference to plain",
        size=11.5,
        bold=True,
    )
    yield from panel.frame((0, 0), _ticks(spans["retention"]), _ticks(spans["skill"]), sign=True)
    right, bottom = panel.left + panel.width - 6, panel.top + panel.height - 6
    yield svg.text(right, bottom, "old skills \N{RIGHTWARDS ARROW}", size=10, colour="muted", anchor="end")
    yield svg.text(panel.left + 14, bottom, "new skill \N{RIGHTWARDS ARROW}", size=10, colour="muted", turn=-90)
    if len(path):
        yield from panel.curve(path, 1.3)
    marks = {arm: panel.at(own.retention, own.skill) for arm, own in shown.iterrows()}
    for arm, (x, y) in marks.items():
        yield _mark(x, y, arm, arms, 4.5)
    origin = panel.at(0, 0)
    yield svg.point(*origin, "plain", radius=5.5)
    for x, y in (*marks.values(), origin):
        panel.occupy(x, y, 4.5)
    yield from panel.label(*origin, "plain fine-tuning", "plain", 11, bold=True)
    for arm, (x, y) in marks.items():
        name = {LOW: "lower learning rate"}.get(arm, arm)
        yield from panel.label(x, y, name, arms.family(arm) or ("muted" if arm in CONTROLS else "plain"), 10.5)


def _chosen_rate(table: pd.DataFrame, flaw: str) -> float:
    own = table[(table.flaw == flaw) & (table.arm == PLAIN) & (table.role == "final")]
    return float(own.learning_rate.iloc[0])


def _ticks(span: tuple[float, float]) -> list[float]:
    step = next(step for step in (0.1, 0.2, 0.25, 0.5) if (span[1] - span[0]) / step <= 6 or step == 0.5)
    first, last = int(span[0] / step) - 1, int(span[1] / step) + 1
    return [round(step * n, 2) for n in range(first, last + 1) if span[0] <= step * n <= span[1]]


def _legend(x: float, y: float, arms: Arms) -> Iterator[str]:
    present = {arms.family(arm) for arm in arms.options}
    entries = [("plain", "plain fine-tuning, as tuned", "circle", False)]
    if LOW in arms.options:
        entries.append(("plain", "the same at a lower learning rate", "circle", True))
    entries += [(name, words, "circle", False) for name, words in FAMILIES.items() if name in present]
    what = {
        "oracle": "oracle: only what is sound",
        "trusted": "trusted: only right samples",
        "random": "random tokens",
    }
    entries += [("muted", what[arm], SHAPE[arm], True) for arm in CONTROLS if arm in arms.options]
    for colour, words, shape, hollow in entries:
        yield svg.point(x + 4, y, colour, radius=4, shape=shape, hollow=hollow)
        yield svg.text(x + 14, y + 4, words, size=10)
        y += 17
    yield svg.rectangle(x, y - 5, 9, 9, "better")
    yield svg.text(x + 14, y + 4, "better in both than plain", size=10)
