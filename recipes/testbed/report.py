"""From the cells to one CSV, tables with Holm's correction, a decision table and a figure.

python recipes/testbed/report.py outputs/testbed --to recipes/testbed/results
python recipes/testbed/report.py outputs/testbed --check-predictions
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from compare import PLAIN, differences
from flaws import FLAWS
from grid import ORACLE
from inference import LEVEL
from predict import PREDICTIONS, direction
from table import KEY, collect, final

NOT_CANDIDATES = (PLAIN, ORACLE, "random")
SMALL = 0.02
"""Exact match: an arm that gives up no more than this keeps the skill."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, help="folder that run.py wrote to, or a results.csv")
    parser.add_argument("--to", type=Path, help="folder of the report (default: that of the cells)")
    parser.add_argument("--check-predictions", action="store_true", help="only predictions.json against the cells")
    parser.add_argument("--predictions", type=Path, default=PREDICTIONS, help="(default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        if arguments.check_predictions:
            print(checked(_table(arguments.cells), json.loads(arguments.predictions.read_text(encoding="utf-8"))))
        else:
            report(arguments.cells, arguments.to, arguments.predictions)
    except ValueError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 2
    return 0


def report(cells: Path, to: Path | None = None, predictions: Path = PREDICTIONS) -> pd.DataFrame:
    """Writes results.csv, summary.md and summary.svg, prints the summary, and returns the table of the cells."""
    from figure import draw

    table = _table(cells)
    folder = to or (cells.parent if cells.is_file() else cells)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "results.csv", index=False)
    text = summary(table)
    if predictions.is_file():
        text += "\n" + checked(table, json.loads(predictions.read_text(encoding="utf-8")))
    (folder / "summary.md").write_text(text, encoding="utf-8")
    draw(table, folder / "summary.svg")
    print(text)
    print(f"Written to {folder}: results.csv, summary.md, summary.svg")
    return table


def _table(cells: Path) -> pd.DataFrame:
    return pd.read_csv(cells) if cells.is_file() else collect(cells)


def summary(table: pd.DataFrame) -> str:
    found = differences(table)
    done = final(table)
    if done.empty or found.empty:
        return f"{len(table)} cells, none yet of an arm beside `{PLAIN}` with a seed that reports.\n"
    seeds = done.groupby([*KEY, "arm"]).seed.nunique()
    lines = [
        "# Testbed",
        "",
        f"{len(done)} cells that report, {len(table) - len(done)} that tuned; {seeds.min()} to {seeds.max()} seeds "
        f"for each arm; code {done.code.iloc[0]}, base model {done.base.iloc[0]}, {done.device.iloc[0]}; "
        f"{done.seconds_cpu.median():.1f} s CPU a cell.",
        "",
        *_decisions(table, found),
    ]
    for measure, title in (("skill", "Exact match on the new skill"), ("retention", "Exact match on the old skills")):
        lines += ["", f"## {title}", "", *_matrix(done, found[found.measure == measure], measure)]
    return "\n".join(lines) + "\n"


def _matrix(done: pd.DataFrame, found: pd.DataFrame, measure: str) -> list[str]:
    """Arms by flaws; of `full` the mean, of others the difference to it."""
    lines = [
        f"`{PLAIN}`: the mean. Others: the difference to it, over the same seeds. **Bold**: p < {LEVEL} after Holm's "
        f"correction over all {int(found.p.notna().sum())} differences of this table.",
    ]
    for regime, group in done.groupby("regime", sort=False):
        names = list(dict.fromkeys(group.flaw))
        lines += ["", f"| {regime} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        plain = group[group.arm == PLAIN].groupby("flaw")[measure].mean()
        cells = {(one.flaw, one.arm): one for one in found[found.regime == regime].itertuples()}
        lines.append(f"| `{PLAIN}` | " + " | ".join(f"{plain[n]:.3f}" if n in plain else "" for n in names) + " |")
        for arm in dict.fromkeys(found[found.regime == regime].arm):
            lines.append(f"| `{arm}` | " + " | ".join(_cell(cells.get((name, arm))) for name in names) + " |")
    return lines


def _cell(one: Any) -> str:
    if one is None:
        return ""
    text = f"{one.difference:+.3f}"
    return f"**{text}**" if one.holm < LEVEL else text


def _decisions(table: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """Your data look like this: switch on that, expect this."""
    lines = [
        "## What to switch on",
        "",
        "An arm is named for the skill if it beats `full` there (p < 0.05, Holm) and does not lose retention so; for "
        f"retention if it beats `full` there and keeps the skill to within {SMALL}.",
        "",
        "| regime | your data | `full`: skill, retention | for the skill | for the old skills | ceiling |",
        "|---|---|---|---|---|---|",
    ]
    wide = found.pivot(index=[*KEY, "arm"], columns="measure", values=["difference", "holm", "plain"])
    for (regime, flaw), group in wide.groupby(level=KEY, sort=False):
        arms = group.droplevel(KEY)
        some = arms[~arms.index.isin(NOT_CANDIDATES)]
        skill, kept = some["difference"]["skill"], some["difference"]["retention"]
        better = (some["holm"]["skill"] < LEVEL) & (skill > 0)
        loses = (some["holm"]["retention"] < LEVEL) & (kept < 0)
        safer = (some["holm"]["retention"] < LEVEL) & (kept > 0) & (skill > -SMALL)
        plain = arms["plain"].iloc[0]
        ceiling = f"{arms['difference']['skill'][ORACLE]:+.2f}" if ORACLE in arms.index else ""
        what = FLAWS[flaw].__doc__.splitlines()[0].split(":")[0].rstrip(".") if flaw in FLAWS else flaw
        lines.append(
            f"| {regime} | `{flaw}`: {what} | {plain['skill']:.2f}, {plain['retention']:.2f} "
            f"| {_best(skill[better & ~loses], kept)} | {_best(kept[safer], skill)} | {ceiling} |"
        )
    return lines


def _best(values: pd.Series, other: pd.Series) -> str:
    """The arm with the highest value, and in brackets what happens on the other side."""
    if values.empty:
        return "nothing beats `full`"
    arm = values.idxmax()
    return f"`{arm}` {values[arm]:+.2f} ({other[arm]:+.2f})"


def checked(table: pd.DataFrame, predictions: dict[str, Any]) -> str:
    """Predicted and measured AUC of REL at the end of plain fine-tuning: hits and misses."""
    done = final(table)
    done = done[done.arm == PLAIN]
    lines = [
        "## Which way REL points: predicted before training, measured after",
        "",
        "AUC of REL at the end of plain fine-tuning: below 0.5, the tokens with the highest REL are the spoiled ones.",
        ""
        if set(table.base) == {predictions["base"]}
        else "\nThe predictions are of another base model than the cells.\n",
        "| regime | flaw | predicted | measured | seeds | |",
        "|---|---|---|---|---|---|",
    ]
    hits = misses = 0
    for regime in dict.fromkeys(done.regime):
        for flaw, found in predictions["flaws"].items():
            aucs = done[(done.regime == regime) & (done.flaw == flaw)].auc_rel.dropna()
            expected = found["regimes"].get(regime, {}).get("auc")
            if expected is None or aucs.empty:
                continue
            was, is_now = direction(expected), direction(aucs.mean())
            hit = was == is_now
            hits, misses = hits + hit, misses + (not hit)
            lines.append(
                f"| {regime} | {flaw} | {expected:.2f} {was} | {aucs.mean():.2f} {is_now} | {len(aucs)} | "
                f"{'hit' if hit else '**miss**'} |"
            )
    return "\n".join([*lines, "", f"{hits} hits, {misses} misses.", ""])


if __name__ == "__main__":
    sys.exit(main())
