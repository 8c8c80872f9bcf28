"""What the testbed's cells say, in sentences."""

from __future__ import annotations

import pandas as pd
from decisions import CONTROLS, SMALL, Decision
from expectations import came_out
from grid import ORACLE
from outcomes import outcomes
from predict import direction

from .cells import Testbed
from .svg import signed

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def counted(n: int, what: str) -> str:
    return f"{NUMBERS[n] if n < len(NUMBERS) else n} {what}{'' if n == 1 else 's'}"


def spoken(flaw: str) -> str:
    return flaw.replace("_", " ")


def on_skill(testbed: Testbed) -> str:
    """Who was shown to be better at the new skill."""
    kinds, n = len(testbed.decided), testbed.family("skill")
    after = f"after Holm's correction over {n} differences"
    named = [one for one in testbed.decided if len(one.for_skill)]
    if named:
        found = "; ".join(
            f"{spoken(one.flaw)}: "
            + ", ".join(
                f"{testbed.arms.linked(str(arm))} {signed(own.skill)}" for arm, own in one.for_skill.iterrows()
            )
            for one in named
        )
        text = (
            "**On the new skill, some methods were shown to beat plain fine-tuning, and not shown to lose old "
            f"skills,** {after}. {found[0].upper()}{found[1:]}."
        )
        if others := kinds - len(named):
            text += f" On the other {counted(others, 'kind')} of data none was."
    else:
        text = (
            "**On the new skill no method was shown to beat plain fine-tuning without a loss of old skills,** on any "
            f"of the {kinds} kinds of data, {after}."
        )
    paid = [
        f"{testbed.arms.linked(str(arm))} on {spoken(one.flaw)} ({signed(own.skill)}, old skills "
        f"{signed(own.retention)})"
        for one in testbed.decided
        for arm, own in one.arms.iterrows()
        if arm not in CONTROLS and own.skill_mark == "better" and own.retention_mark == "worse"
    ]
    if paid:
        text += f" Shown to be better at it, and to lose old skills: {', '.join(paid)}."
    least = pd.Series([one.findable["skill"] for one in testbed.decided])
    text += (
        f" Differences below {least.median():.2f} (by the kind of data {least.min():.2f} to {least.max():.2f}) would "
        "mostly not have been found."
    )
    for arm in (arm for arm in CONTROLS[:2] if arm in testbed.arms.options):
        flaws = [one for one in testbed.decided if arm in one.arms.index]
        shown = [spoken(one.flaw) for one in flaws if one.arms.skill_mark[arm] == "better"]
        text += f" {_CONTROL[arm]} was shown to be better on {len(shown)} of {len(flaws)} kinds of data"
        text += f": {', '.join(shown)}." if shown else "."
    return text


_CONTROL = {
    ORACLE: "The control that drops exactly what is wrong (`oracle`)",
    "trusted": "The control that trains on a few samples known to be right, and on nothing else (`trusted`),",
}


def on_retention(testbed: Testbed) -> str:
    """Who kept more of the old skills, and what it paid."""
    tally = testbed.tally
    kept = tally[(tally.retention_better > 0) & ~tally.index.isin(CONTROLS[:2])]
    kept = kept.sort_values(["retention_better", "retention"], ascending=False, kind="stable")
    if kept.index.isin(CONTROLS).all():
        n = testbed.family("retention")
        return f"**No method was shown to keep more of the old skills** than plain fine-tuning, over {n} differences."
    lines = [
        "**These were shown to keep more of the old skills on some kind of data.** What they pay is in the other "
        "columns, means over the kinds of data on which they kept more. Compare them with a lower learning rate, "
        "which costs nothing to switch on, and with random tokens where they did so, too.",
        "",
        "| | kinds of data | old skills there | new skill there | of these, new skill kept³ |",
        "| --- | --- | --- | --- | --- |",
    ]
    for arm, own in kept.iterrows():
        rows = pd.DataFrame([one.arms.loc[arm] for one in testbed.decided if _keeps(one, str(arm))])
        free = sum(arm in one.for_retention.index for one in testbed.decided)
        lines.append(
            f"| {testbed.arms.shown(str(arm))} | {own.retention_better:.0f} | {signed(rows.retention.mean())} | "
            f"{signed(rows.skill.mean())} | {free} |"
        )
    return "\n".join([*lines, "", f"³ To within {SMALL}."])


def _keeps(one: Decision, arm: str) -> bool:
    return arm in one.arms.index and bool(one.arms.retention_mark[arm] == "better")


def on_predictions(testbed: Testbed) -> str:
    """Hits and misses of the direction of REL."""
    if set(testbed.table.base) != {testbed.predictions["base"]}:
        return "The predictions are of another base model than the cells, so they are not compared."
    found = outcomes(testbed.table, testbed.predictions)
    misses = [one for one in found if not one.hit]
    text = (
        "Whether REL ranks flawed tokens below sound ones (the right way) was predicted from the base model before "
        "training, for each kind of data with flawed tokens: "
        f"**{sum(one.hit for one in found)} of {len(found)} predictions hit.**"
    )
    if misses:
        said = [
            f"{spoken(one.flaw)} (predicted AUC {one.predicted:.2f}, {_way(one.predicted)}; measured "
            f"{one.measured:.2f}, {_way(one.measured)})"
            for one in misses
        ]
        text += f" Missed: {', '.join(said)}."
    return text


def _way(auc: float) -> str:
    return {"right": "the right way", "wrong": "the wrong way"}.get(str(direction(auc)), "neither way")


def on_expectations(testbed: Testbed) -> str:
    """What was expected of the arms that were added later; empty if none has run."""
    found = came_out(testbed.table, testbed.decided)
    if not found:
        return ""
    lines = [
        "Of the arms that were added later, this was written down before they ran. *Beats*, *gains* and *loses* are "
        "counted as shown, after Holm's correction.",
        "",
        "| expected | came out so | |",
        "| --- | --- | --- |",
    ]
    for clause, held, cases in found:
        verdict = "hit" if held == cases else "**miss**"
        lines.append(f"| {clause} | {held} of {cases} | {verdict} |")
    return "\n".join(lines)
