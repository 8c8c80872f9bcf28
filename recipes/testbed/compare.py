"""Paired differences with plain fine-tuning: crossed bootstrap over seeds and items, and Holm's correction."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from table import KEY, bits, final

sys.path.append(str(Path(__file__).parents[1] / "evidence"))
from inference import crossed, holm, paired

PLAIN = "full"
MEASURES = {"skill": "new", "retention": "old", "loss": None, "loss_tempered": None}
"""The measures, and the column of their items; None where there is one number for each cell."""


def differences(table: pd.DataFrame, plain: str = PLAIN) -> pd.DataFrame:
    """Of each arm to `plain`, for each regime, flaw and measure, over the seeds that both have.

    Returns:
        `difference`, its standard error `error`, `low` and `high` (95 %), `p`, `holm`, `seeds`, with `mean` and
        `plain` of those seeds. Holm's family is one measure: all regimes, flaws and arms of its table.
    """
    rows = []
    for (regime, flaw), group in final(table).groupby(KEY, sort=False):
        by_arm = {arm: cells.set_index("seed").sort_index() for arm, cells in group.groupby("arm", sort=False)}
        if plain not in by_arm:
            continue
        for arm, cells in by_arm.items():
            seeds = cells.index.intersection(by_arm[plain].index)
            if arm == plain or not len(seeds):
                continue
            for measure, items in MEASURES.items():
                ours, theirs = cells.loc[seeds], by_arm[plain].loc[seeds]
                if items:
                    found_here = crossed(bits(ours[items]) - bits(theirs[items]))
                else:
                    found_here = paired((ours[measure] - theirs[measure]).to_numpy())
                rows.append(
                    {
                        "regime": regime,
                        "flaw": flaw,
                        "arm": arm,
                        "measure": measure,
                        "mean": ours[measure].mean(),
                        "plain": theirs[measure].mean(),
                        "seeds": len(seeds),
                        **found_here,
                    }
                )
    found = pd.DataFrame(rows)
    if len(found):
        found["holm"] = found.groupby("measure").p.transform(lambda p: holm(p.to_numpy()))
    return found
