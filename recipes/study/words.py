"""What the study's numbers say in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
from averages import METRICS, NOT_CANDIDATES, PAPER, PLAIN, SETTING, title, uncorrected, verdict


def words(averages: pd.DataFrame) -> str:
    """The verdict, from the numbers alone."""
    candidates = [name for name in dict.fromkeys(averages.strategy) if name not in NOT_CANDIDATES]
    parts = [
        "## In words\n",
        "Against plain fine-tuning (`full`) with the same data and seeds. *Better* and *worse* are what is left at 5 "
        f"% after Holm's correction over all {averages[f'nll_vs_{PLAIN}_p'].notna().sum()} differences in held-out "
        "loss. *Without the correction*: the 95 % interval of the paired difference leaves out 0, which about one in "
        "twenty do that are in truth equal. The number is the difference in held-out loss, in nats a token.\n",
    ]
    for setting, group in averages.groupby(SETTING, sort=False):
        found = {
            word: [
                f"`{row.strategy}` ({row.nll_vs_full:+.2f})"
                for _, row in group.sort_values("nll").iterrows()
                if row.strategy != PLAIN and (verdict(row, "nll"), uncorrected(row, "nll")) in kinds
            ]
            for word, kinds in _SAID.items()
        }
        said = "; ".join(f"{word}: {', '.join(names)}" for word, names in found.items() if names)
        parts.append(f"- **{title(setting)}** ({group.seeds.min()} seeds or more). {said[0].upper()}{said[1:]}.")
    parts += ["", _hole(averages), "", _advice(averages, candidates), ""]
    return "\n".join(parts)


_SAID = {
    "better": [("better", "better")],
    "without the correction better": [("same", "better")],
    "no difference shown": [("same", "same")],
    "without the correction worse": [("same", "worse")],
    "worse": [("worse", "worse")],
}
"""By what is said, the verdicts with the correction and without."""


def _hole(averages: pd.DataFrame) -> str:
    """What becomes of random tokens."""
    lines = [
        "**What happens to random tokens.** Of what a strategy drops, how much is noise, and how much of all tokens "
        "is; twice that is the bar:\n"
    ]
    for setting, group in averages[averages.condition == "random_tokens"].groupby(SETTING, sort=False):
        dropping = group[~group.strategy.isin(["full", "oracle"])].sort_values("corrupted_of_dropped")
        shares = ", ".join(f"`{row.strategy}` {row.corrupted_of_dropped:.0%}" for _, row in dropping.iterrows())
        lines.append(
            f"- {title(setting)}: {group.corrupted.iloc[0]:.0%} of all tokens are noise; of the dropped: {shares}."
        )
    return "\n".join(lines)


def _advice(averages: pd.DataFrame, candidates: Iterable[str]) -> str:
    """*Better* has to be shown with the correction; *not worse* has to hold without it."""
    wins, safe = [], []
    for name in candidates:
        rows = [row for _, row in averages[averages.strategy == name].iterrows()]
        clean = [row for row in rows if row["condition"] == "clean"]
        noisy = [row for row in rows if row["condition"] == "random_tokens"]
        if not clean or not noisy:
            continue
        on_noise = all(verdict(row, "nll", control) == "better" for row in noisy for control in (PLAIN, PAPER))
        if on_noise and all(verdict(row, "nll", control) == "better" for row in clean for control in (PLAIN, PAPER)):
            wins.append(name)
        elif (
            on_noise
            and all(uncorrected(row, metric) != "worse" for row in clean for metric in METRICS)
            and all(uncorrected(row, "nll", PAPER) != "worse" for row in clean)
        ):
            safe.append(name)
    preferable = [
        name
        for name in candidates
        if (rows := [row for _, row in averages[averages.strategy == name].iterrows()])
        and not any(uncorrected(row, "nll", control) == "worse" for row in rows for control in (PLAIN, PAPER))
        and {verdict(row, "nll", PAPER) for row in rows if row["condition"] == "random_tokens"} == {"better"}
        and "better" in {verdict(row, "nll", PAPER) for row in rows if row["condition"] == "clean"}
    ]
    plain = averages[(averages.condition == "clean") & ~averages.strategy.isin(NOT_CANDIDATES)]
    beats_on_clean = sorted({row.strategy for _, row in plain.iterrows() if verdict(row, "nll") == "better"})
    return "\n".join(
        [
            "**What follows.** *Better* is meant with the correction, *not worse* without it.\n",
            f"- Better than plain fine-tuning *and* than ssToken in held-out loss, on clean and on random-token data, "
            f"wherever it was run: {_names(wins)}.",
            f"- Better than both on random-token data, and on clean data worse in nothing that was measured: "
            f"{_names(safe)}.",
            "- Wherever it was run never worse in held-out loss than plain fine-tuning or ssToken, always better than "
            f"ssToken on random-token data, and in some setting better than it on clean data: {_names(preferable)}.",
            "- Better than plain fine-tuning on clean data in some setting, by held-out loss: "
            f"{_names(beats_on_clean)}. (Held-out loss on clean data favours plain fine-tuning by construction: it "
            "trains on all of it.)",
        ]
    )


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) if names else "none"
