"""What to switch on: which arms beat plain fine-tuning, at what cost, and what could have been found at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from compare import PLAIN
from grid import ORACLE
from inference import detectable, mark
from table import KEY

CONTROLS = (ORACLE, "trusted", "random")
"""Arms that nobody would switch on: the first two know which tokens or samples are right, the third knows nothing."""
SMALL = 0.02
"""Exact match: an arm that gives up no more than this keeps the skill."""
AXES = ("skill", "retention")


@dataclass(frozen=True)
class Decision:
    """For data of one kind: what plain fine-tuning does, and which arms do better.

    The frames have a row for each arm, the best first, and the columns `skill`, `retention` (differences to plain
    fine-tuning) with `_low`, `_high`, `_error` and `_mark` ('better', 'worse' or '').
    """

    regime: str
    flaw: str
    skill: float  # of plain fine-tuning
    retention: float
    arms: pd.DataFrame  # all but plain fine-tuning
    for_skill: pd.DataFrame  # shown to be better at the new skill, and not shown to lose old skills
    for_retention: pd.DataFrame  # shown to keep more old skills, with at most SMALL less of the new one
    seeds: int
    findable: dict[str, float]
    """For each axis the difference that is marked for certain at the median standard error of the arms."""


def decisions(found: pd.DataFrame) -> Iterator[Decision]:
    """Of what `compare.differences` returns, one for each regime and flaw."""
    family = {axis: int(found[found.measure == axis].p.notna().sum()) for axis in AXES}
    for (regime, flaw), group in found.groupby(KEY, sort=False):
        arms = by_arm(group)
        some = arms[~arms.index.isin((PLAIN, *CONTROLS))]
        better, safer = beats(some, "skill"), beats(some, "retention")
        plain = group.groupby("measure").plain.first()
        seeds = int(group.seeds.min())
        findable = {}
        for axis in AXES:
            errors = arms[f"{axis}_error"]
            # An arm that is right at nothing under every seed has no error; it says nothing of the others'.
            error = errors[errors > 0].median()
            findable[axis] = detectable(error, seeds, family[axis]) if seeds > 1 else float("nan")
        yield Decision(
            str(regime),
            str(flaw),
            float(plain["skill"]),
            float(plain["retention"]),
            arms,
            some[better].sort_values("skill", ascending=False, kind="stable"),
            some[safer].sort_values("retention", ascending=False, kind="stable"),
            seeds,
            findable,
        )


def beats(arms: pd.DataFrame, axis: str) -> pd.Series:
    """Which arms are shown to be better on an axis: at the skill and not shown to lose retention; at retention, and
    with at most SMALL less of the skill."""
    if axis == "skill":
        return (arms.skill_mark == "better") & (arms.retention_mark != "worse")
    return (arms.retention_mark == "better") & (arms.skill > -SMALL)


def by_arm(group: pd.DataFrame) -> pd.DataFrame:
    """One row for each arm of one regime and flaw."""
    parts = []
    for axis in AXES:
        own = group[group.measure == axis].set_index("arm")
        part = own[["low", "high", "error"]].add_prefix(f"{axis}_")
        part.insert(0, axis, own.difference)
        part[f"{axis}_mark"] = [mark(one) for one in own.itertuples()]
        parts.append(part)
    return pd.concat(parts, axis=1)
