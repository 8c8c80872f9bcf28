"""What README.md expected of the arms that were added later, against the cells; each clause with how it is counted.

*Gains*, *beats* and *loses* mean a difference to plain fine-tuning that is left after Holm's correction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pandas as pd
from compare import PLAIN
from decisions import Decision
from table import final

MOSTLY_WRONG = 0.3
"""Share of spoiled tokens from which on about a third of the data, or more, is wrong."""
REFERENCES = ("rho1", "token_cleaning", "forgetting")
RULES = ("wrong_rule", "lazy_rule")


class Expectation(NamedTuple):
    """A clause, and of the cases that it is about whether each came out so."""

    clause: str
    arms: tuple[str, ...]  # without which there is nothing to say
    cases: Callable[[list[Decision], dict[str, float]], Iterator[bool]]


def _mark(one: Decision, arm: str) -> str:
    return str(one.arms.skill_mark[arm])


def _mean(decided: list[Decision], arm: str, axis: str = "skill") -> float:
    if arm == PLAIN:
        return 0.0
    return float(pd.Series([one.arms[axis][arm] for one in decided if arm in one.arms.index]).mean())


def _between(decided: list[Decision], arm: str) -> bool:
    low, high = sorted((_mean(decided, "rel"), _mean(decided, PLAIN)))
    return low <= _mean(decided, arm) <= high


EXPECTED = (
    Expectation(
        "`trusted` beats plain fine-tuning where about a third of the tokens or more is wrong",
        ("trusted",),
        lambda decided, spoiled: (
            _mark(one, "trusted") == "better" for one in decided if spoiled[one.flaw] > MOSTLY_WRONG
        ),
    ),
    Expectation(
        "`trusted` loses nothing elsewhere",
        ("trusted",),
        lambda decided, spoiled: (
            _mark(one, "trusted") != "worse" for one in decided if spoiled[one.flaw] <= MOSTLY_WRONG
        ),
    ),
    Expectation(
        "`rho1`, `token_cleaning` and `forgetting` gain where a wrong rule can be learned",
        REFERENCES,
        lambda decided, _: (_mark(one, arm) == "better" for one in decided if one.flaw in RULES for arm in REFERENCES),
    ),
    Expectation(
        "they do not reach `trusted` anywhere (mean skill)",
        ("trusted", *REFERENCES),
        lambda decided, _: (one.arms.skill[arm] < one.arms.skill["trusted"] for one in decided for arm in REFERENCES),
    ),
    Expectation(
        "`anchored` gives retention (mean over the kinds of data)",
        ("anchored",),
        lambda decided, _: iter([_mean(decided, "anchored", "retention") > 0]),
    ),
    Expectation(
        "`anchored` costs skill (mean over the kinds of data)",
        ("anchored",),
        lambda decided, _: iter([_mean(decided, "anchored") < 0]),
    ),
    Expectation(
        "`unlearned_noise` gains with other letters and with junk, and nowhere else",
        ("unlearned_noise",),
        lambda decided, _: (
            (_mark(one, "unlearned_noise") == "better") == (one.flaw in ("alphabet_noise", "junk")) for one in decided
        ),
    ),
    Expectation(
        "`rel_less_surprise` and `rel_soft` lie between `rel` and plain fine-tuning (mean skill)",
        ("rel", "rel_less_surprise", "rel_soft"),
        lambda decided, _: (_between(decided, arm) for arm in ("rel_less_surprise", "rel_soft")),
    ),
    Expectation(
        "`rel_plausible` loses skill everywhere",
        ("rel_plausible",),
        lambda decided, _: (_mark(one, "rel_plausible") == "worse" for one in decided),
    ),
)


def came_out(table: pd.DataFrame, decided: list[Decision]) -> list[tuple[str, int, int]]:
    """Each clause of which the table has arms and cases: (clause, cases in which it holds, cases)."""
    done = final(table)
    spoiled = done.groupby("flaw").spoiled.mean().to_dict()
    found = []
    for expected in EXPECTED:
        if set(expected.arms) <= set(done.arm):
            cases = [bool(case) for case in expected.cases(decided, spoiled)]
            if cases:
                found.append((expected.clause, sum(cases), len(cases)))
    return found
