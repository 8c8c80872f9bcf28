"""What the page says of the testbed: counts, the decision table, all arms; sentences and figures in between."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from decisions import AXES, CONTROLS, SMALL, Decision, beats
from inference import LEVEL
from report import what_it_is
from table import final

from .cells import Testbed
from .sentences import on_expectations, on_predictions, on_retention, on_skill, spoken
from .svg import signed


def part(testbed: Testbed, figures: Sequence[tuple[str, str]]) -> str:
    """What is generated.

    Args:
        figures: of each its address from the page, and its text for who cannot see it.
    """
    tradeoff, skill, retention = [f"![{words}]({address})" for address, words in figures]
    parts = [
        counts(testbed),
        "### Which to switch on",
        decision_table(testbed),
        "### The new skill",
        on_skill(testbed),
        skill,
        "### The old skills",
        on_retention(testbed),
        tradeoff,
        retention,
        "### Arm by arm",
        arm_table(testbed),
        "### Predictions",
        on_predictions(testbed),
        on_expectations(testbed),
    ]
    return "\n\n".join(part for part in parts if part)


def counts(testbed: Testbed) -> str:
    table, done = testbed.table, final(testbed.table)
    seeds = done.groupby(["flaw", "arm"]).seed.nunique()
    span = str(seeds.max()) if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    elsewhere = table[(table.role == "tuning") & (table.code != done.code.iloc[0])]
    older = f" ({len(elsewhere)} of the trainings that chose are of older code)" if len(elsewhere) else ""
    controls = [f"`{arm}`" for arm in CONTROLS if arm in testbed.arms.options]
    return (
        f"{len(table):,} trainings, of which {len(done):,} report and {len(table) - len(done):,} chose learning rate "
        f"and main option, with the same budget for each arm. {len(testbed.arms.options)} arms, of which "
        f"{len(controls)} are controls that nobody would switch on ({', '.join(controls)}); {done.flaw.nunique()} "
        f"kinds of data; {span} seeds for each. Code {done.code.iloc[0]}{older}, base model "
        f"{done.base.iloc[0]}.\n\n"
        "Differences are to plain fine-tuning (`full`) with the same data and seeds. p-values are from a crossed "
        "bootstrap over seeds and items, and corrected after Holm: over "
        f"{testbed.family('skill')} differences for the new skill and {testbed.family('retention')} for the old ones. "
        f"*Shown* means that p is below {LEVEL} after that."
    )


def decision_table(testbed: Testbed) -> str:
    lines = [
        "A method is named for the new skill if it was shown to be better than plain fine-tuning and was not shown to "
        "lose old skills; for the old skills if it was shown to keep more, at a cost of at most "
        f"{SMALL} of the new one. In brackets: the 95 % interval, and what happens to the other skills. *Could be "
        "found*: the smallest difference (new skill, old skills) that is marked for certain, at the median standard "
        "error of the row; a true difference of that size is found half of the time; *none*: not even one of 1. "
        "*Ceiling*: what the controls gain in the new skill that know which tokens or samples are right.",
        "",
        "| your data look like this | plain fine-tuning: new, old skills | for the new skill, switch on "
        "| to keep old skills, switch on | could be found | ceiling |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in testbed.decided:
        ceiling = [f"`{arm}` {signed(one.arms.skill[arm])}" for arm in CONTROLS[:2] if arm in one.arms.index]
        findable = ", ".join(_least(one.findable[axis]) for axis in AXES)
        lines.append(
            f'| <a id="{one.flaw}"></a>**{spoken(one.flaw)}**: '
            f"{_lower(what_it_is(one.flaw))} | {one.skill:.2f}, {one.retention:.2f} "
            f"| {_choice(testbed, one, one.for_skill, 'skill')} "
            f"| {_choice(testbed, one, one.for_retention, 'retention')} | {findable} | {', '.join(ceiling)} |"
        )
    return "\n\n".join(["\n".join(lines), *testbed.arms.notes()])


def _least(findable: float) -> str:
    """No difference of shares is above 1."""
    return f"±{findable:.2f}" if findable <= 1 else "none"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _choice(testbed: Testbed, one: Decision, arms: pd.DataFrame, axis: str) -> str:
    """The best with its numbers, then two others with one each, and random tokens where they do it too."""
    if arms.empty:
        return "nothing was shown to help"
    other, word = ("retention", "old") if axis == "skill" else ("skill", "new")
    best, *rest = [row for _, row in arms.iterrows()]
    text = (
        f"{testbed.arms.linked(str(best.name))} {signed(best[axis])} [{signed(best[f'{axis}_low'])}, "
        f"{signed(best[f'{axis}_high'])}] ({word}: {signed(best[other])})"
    )
    if rest:
        text += f"; also {', '.join(f'{testbed.arms.linked(str(row.name))} {signed(row[axis])}' for row in rest[:2])}"
    chance = one.arms[one.arms.index == "random"]
    if beats(chance, axis).any():
        text += f"; but random tokens do it, too: {signed(chance[axis].iloc[0])}"
    return text


def arm_table(testbed: Testbed) -> str:
    """Every arm over all kinds of data."""
    tally = testbed.tally.sort_values("skill", ascending=False, kind="stable")
    lines = [
        "Mean differences to plain fine-tuning over all kinds of data, and on how many of them an arm was shown to be "
        "better or worse. Controls are in italics; `oracle` is only where something is wrong.",
        "",
        "| | new skill | better | worse | old skills | better | worse |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for arm, own in tally.iterrows():
        cells = [
            text
            for axis in AXES
            for text in (signed(own[axis]), *(f"{own[f'{axis}_{word}']:.0f}" for word in ("better", "worse")))
        ]
        lines.append(f"| {testbed.arms.shown(str(arm))} | {' | '.join(cells)} |")
    return "\n".join(lines)
