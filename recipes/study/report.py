"""From the cells of a study to one tidy table, means with confidence intervals, a plot, and what they say in words.

python recipes/study/report.py outputs/study --to recipes/study/results
python recipes/study/report.py recipes/study/results/study.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from averages import METRICS, MINIMUM_SEEDS, SETTING, means, tidy, title
from plot import plot
from tables import glance, tables
from words import words


def report(cells: Path, target: Path | None = None, planned: Sequence[str] = ()) -> None:
    """Writes study.csv and summary.md and, where there are enough seeds, summary.svg.

    Args:
        cells: the folder that run.py wrote to, or a study.csv.
        target: folder to write to, if not that of the cells.
        planned: names of all cells of the grid; those that were not run are listed.
    """
    folder = cells.parent if cells.is_file() else cells
    target = target or folder
    table = tidy(cells)
    if table.empty:
        print(f"No cells in {cells}.")
        return
    if planned:
        order = {name: number for number, name in enumerate(planned)}
        table = table.sort_values("name", key=lambda names: names.map(lambda name: order.get(name, len(order))))
    target.mkdir(parents=True, exist_ok=True)
    table.to_csv(target / "study.csv", index=False, float_format="%.6g")
    averages = means(table)
    parts = ["# The study's results\n", _about(table)]
    if averages.empty:
        parts.append(f"Nothing has run with {MINIMUM_SEEDS} seeds beside its controls yet: no verdict.\n")
    else:
        plot(averages, target / "summary.svg")
        parts += [_chance(averages), words(averages), "![](summary.svg)\n", glance(averages), tables(averages)]
        print(words(averages))
    parts.append(_missing(table, folder, planned))
    (target / "summary.md").write_text("\n".join(parts), encoding="utf-8")
    print(f"Written: study.csv, summary.md{'' if averages.empty else ', summary.svg'} in {target}")


def _about(table: pd.DataFrame) -> str:
    def all_of(column: str) -> str:
        return ", ".join(str(value) for value in table[column].unique())

    versions = ", ".join(
        f"{column.removeprefix('version_')} {all_of(column)}" for column in table if column.startswith("version_")
    )
    return (
        f"{len(table)} runs; {all_of('model')}, LoRA r {all_of('lora_r')} on all linear layers, learning rate "
        f"{all_of('learning_rate')}, batch {all_of('batch')}; {all_of('device')}, {all_of('threads')} thread(s) a "
        f"run; {versions}; commit {all_of('commit')}. Every number of every run is in study.csv.\n"
    )


def _chance(averages: pd.DataFrame) -> str:
    """What the intervals are over."""
    metrics = [metric for metric in METRICS if metric in averages and f"{metric}_items" in averages]
    rows = pd.concat([averages[f"{metric}_items"].dropna() for metric in metrics])
    over_both = int((rows > 0).sum())
    over_seeds = len(rows) - over_both
    parts = []
    if over_seeds:
        parts.append(
            f"{over_seeds} differences are over seeds only (paired t-test): their cells hold means and no single "
            "items, so their intervals say nothing of other test items."
        )
    if over_both:
        parts.append(
            f"{over_both} differences are over seeds and items: both are drawn anew, independently of each other "
            "(crossed bootstrap)."
        )
    return f"How sure: {' '.join(parts)} p-values are corrected after Holm, over all differences of one measure.\n"


def _missing(table: pd.DataFrame, folder: Path, planned: Sequence[str]) -> str:
    """What the grid has and the table has not."""
    failed = sorted(path.stem for path in (folder / "cells").glob("*.failed"))
    missing = [name for name in planned if name not in set(table.name) and name not in failed]
    groups = list(dict.fromkeys(name.rsplit("-seed", 1)[0].rsplit("-", 1)[0] for name in missing))
    counts = [f"{group} ({sum(name.startswith(f'{group}-') for name in missing)})" for group in groups]
    return "\n".join(
        [
            "## Not in the tables\n",
            f"- Failed: {', '.join(failed) or 'none'}.",
            f"- In the grid but not run (number of runs): {', '.join(counts) or 'none'}.",
            f"- Run with fewer than {MINIMUM_SEEDS} seeds, so only in study.csv: {_few(table)}.",
            "",
        ]
    )


def _few(table: pd.DataFrame) -> str:
    counts = table.groupby([*SETTING, "strategy"], sort=False).seed.nunique()
    few = [f"{title(index[:-1])}, `{index[-1]}` ({n})" for index, n in counts.items() if n < MINIMUM_SEEDS]
    return "; ".join(few) or "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where run.py wrote to, or a study.csv")
    parser.add_argument("--to", type=Path, help="folder for the report (default: the same)")
    parser.add_argument("--grid", type=Path, default=Path(__file__).with_name("grid.yaml"))
    arguments = parser.parse_args()
    import yaml
    from run import cells

    planned = [cell.name for cell in cells(yaml.safe_load(arguments.grid.read_text(encoding="utf-8")))]
    report(arguments.folder, arguments.to, planned)


if __name__ == "__main__":
    main()
