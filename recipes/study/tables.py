"""The study's tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from averages import METRICS, PLAIN, SETTING, title, uncorrected, verdict

_MARKS = (
    "**+** better and **-** worse after Holm's correction, over all differences of one measure; + and - without it."
)


def main_strategies(averages: pd.DataFrame) -> list[str]:
    """Those that ran in at least half of the settings, plain fine-tuning first."""
    settings = averages.groupby(SETTING, sort=False).ngroups
    counts = averages.groupby("strategy", sort=False).size()
    return [
        PLAIN,
        *(name for name in dict.fromkeys(averages.strategy) if name != PLAIN and counts[name] * 2 >= settings),
    ]


def glance(averages: pd.DataFrame) -> str:
    """Held-out loss against plain fine-tuning's: of the strategies that ran nearly everywhere, and of the others."""
    main = main_strategies(averages)
    others = [name for name in dict.fromkeys(averages.strategy) if name not in main]
    rows = {(*row[SETTING], row.strategy): row for _, row in averages.iterrows()}
    settings = [setting for setting, _ in averages.groupby(SETTING, sort=False)]

    def lines(first: str, heads: Sequence[str], cells: Iterable[Sequence[str]]) -> list[str]:
        head = [first, *heads]
        return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in cells), ""]

    def shown(setting: Sequence[Any], strategy: str) -> str:
        row = rows.get((*setting, strategy))
        return "" if row is None else _cell(row, "nll", decimals=2, value=strategy == PLAIN)

    of_others = [setting for setting in settings if any((*setting, name) in rows for name in others)]
    return "\n".join(
        [
            "## Held-out loss at a glance\n",
            "`full`: the loss itself, in nats a token. The others: the difference to it with the half-width of its "
            f"95 % interval. {_MARKS}\n",
            *lines(
                "",
                [f"`{name}`" for name in main],
                ([title(setting), *(shown(setting, name) for name in main)] for setting in settings),
            ),
            *lines(
                "",
                list(map(title, of_others)),
                ([f"`{name}`", *(shown(setting, name) for setting in of_others)] for name in others),
            )[: None if others else 0],
        ]
    )


def tables(averages: pd.DataFrame) -> str:
    """One table for each setting."""
    parts = [
        "## Tables\n",
        "Means over seeds; in brackets the difference to `full` with the half-width of its 95 % interval. "
        f"{_MARKS} *Noise*: the share of corrupted tokens among the kept and the "
        "dropped. *CPU*: time of training, in multiples of `full` (without the forward pass of history `base`, which "
        "cells share).\n",
    ]
    for setting, group in averages.groupby(SETTING, sort=False):
        shown = [metric for metric in METRICS if metric in group and group[metric].notna().all()]
        heads = ["strategy", "seeds", *(METRICS[metric][0] for metric in shown), "kept", "noise: kept, dropped", "CPU"]
        parts += [f"### {title(setting)[0].upper()}{title(setting)[1:]}\n"]
        parts += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for _, row in group.sort_values("nll").iterrows():
            noise = [row.corrupted_of_kept, row.corrupted_of_dropped] if row.corrupted else []
            cells = [
                f"`{row.strategy}`",
                str(row.seeds),
                *(_cell(row, metric) for metric in shown),
                f"{row.keep_rate:.0%}",
                ", ".join("" if pd.isna(share) else f"{share:.0%}" for share in noise),
                f"{row.cpu:.2f}",
            ]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def _cell(row: Any, metric: str, decimals: int = 3, value: bool = True) -> str:
    own = f"{row[metric]:.{decimals}f}"
    if row.strategy == PLAIN:
        return own
    mark = {"better": " +", "worse": " -"}.get(uncorrected(row, metric), "")
    mark = {"better": " **+**", "worse": " **-**"}.get(verdict(row, metric), mark)
    difference, half = row[f"{metric}_vs_{PLAIN}"], row[f"{metric}_vs_{PLAIN}_half"]
    difference = f"{difference:+.{decimals}f} ± {half:.{decimals}f}"
    return f"{own} ({difference}){mark}" if value else f"{difference}{mark}"
