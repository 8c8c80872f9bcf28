"""Whether a run here says the same as the committed one, arm by arm."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from compare import differences
from inference import LEVEL

COMMITTED = Path(__file__).parent / "results" / "results.csv"
NEAR = 0.1
"""Exact match: two differences count as one if they are this near, or both say "better" or both "worse"."""


def word(difference: float, p: float) -> str:
    """'better', 'worse', or 'no different' if p, not corrected, is 0.05 or more."""
    if not p < LEVEL:
        return "no different"
    return "better" if difference > 0 else "worse"


def verdict(here: pd.DataFrame, committed: pd.DataFrame | None) -> tuple[str, bool]:
    """What each arm's exact match on the new skill is against `full`, here and in the committed table.

    Returns:
        The text, and whether all arms that both tables have come out the same; True if there is nothing to compare.
    """
    ours = differences(here)
    theirs = differences(committed) if committed is not None else pd.DataFrame(columns=ours.columns)
    key = ["regime", "flaw", "arm", "measure"]
    both = ours.merge(theirs, on=key, how="left", suffixes=("", "_committed"))
    lines, same = [], True
    for one in both[both.measure == "skill"].itertuples():
        said = f"{one.regime}, {one.flaw}: `{one.arm}` is {word(one.difference, one.p)} ({one.difference:+.3f})"
        if pd.notna(one.difference_committed):
            was = word(one.difference_committed, one.p_committed)
            said += f"; committed: {was} ({one.difference_committed:+.3f})"
            agree = (
                word(one.difference, one.p) == was != "no different"
                or abs(one.difference - one.difference_committed) <= NEAR
            )
            same &= agree
            said += "" if agree else "  <- ANOTHER verdict"
        lines.append(said)
    compared = both.difference_committed.notna().any()
    lines.append("The verdict is the same." if same and compared else "" if same else "The verdict is ANOTHER one.")
    return "\n".join(lines).rstrip(), same
