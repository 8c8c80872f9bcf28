"""The table of the first study: held-out loss against plain fine-tuning.

The p-value of a cell is that of a paired t-test over seeds; Holm's correction is over all cells of the table.
"""

from __future__ import annotations

from pathlib import Path

import averages
import pandas as pd
from inference import LEVEL, holm

COLUMNS = {
    "random": "`random`",
    "sstoken": "`sstoken`",
    "trimmed": "`trimmed`",
    "trimmed_1": "`trimmed`, `trim: 1`",
    "grounded_1": "`grounded`, `trim: 1`",
    "oracle": "oracle",
}


def part(cells: Path) -> str:
    """What is generated, from study.csv."""
    table = pd.read_csv(cells)
    means = averages.means(table[table.strategy.isin([averages.PLAIN, *COLUMNS])])
    setting = [averages.title(row) for row in means[averages.SETTING].itertuples(index=False)]
    means = means.assign(setting=setting)
    plain = means[means.strategy == averages.PLAIN].set_index("setting").nll
    own = means[means.strategy.isin(COLUMNS)].set_index(["setting", "strategy"])
    corrected = pd.Series(holm(own.nll_vs_full_p), own.index)
    shown = {}
    for name, row in own.iterrows():
        text = f"{row.nll_vs_full:+.2f} ± {row.nll_vs_full_half:.2f}"
        shown[name] = f"**{text}**" if corrected[name] < LEVEL else text
    lines = [
        "The first column is the loss of plain fine-tuning (`full`). All others are differences to it with the same "
        "seed and data, with their 95 % interval over the seeds: below 0 is better. **Bold** marks the "
        f"{(corrected < LEVEL).sum()} that are left at 5 % after Holm's correction over the {len(own)} differences of "
        f"the table; without the correction there would be {(own.nll_vs_full_p < LEVEL).sum()} marks.",
        "",
        f"| | `full` | {' | '.join(COLUMNS.values())} |",
        "| --- " * (len(COLUMNS) + 2) + "|",
    ]
    for setting in sorted(plain.index, key=lambda each: (not each.startswith("clean"), each.partition(":")[0])):
        row = [shown.get((setting, name), "") for name in COLUMNS]
        lines.append(f"| {setting} | {plain[setting]:.2f} | {' | '.join(row)} |")
    return "\n".join(lines)
