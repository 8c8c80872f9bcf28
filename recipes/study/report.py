"""From the cells of a study to one tidy table, means with confidence intervals, a plot, and what they say in words.

python recipes/study/report.py outputs/study --to recipes/study/results
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from conditions import CONDITIONS
from scipy import stats

SETTING = ["data", "samples", "epochs", "precision", "condition"]
# What is shown, under which heading, and which way is better.
METRICS = {
    "nll": ("held-out loss", -1),
    "token_accuracy": ("token accuracy", 1),
    "final_exact": ("final number", 1),
    "exact_match": ("exact match", 1),
    "unrelated_nll": ("loss on unrelated text", -1),
    "facts_nll": ("loss on facts", -1),
}
PLAIN, PAPER = "full", "sstoken"
PLOTTED = ("random", "sstoken", "trimmed", "grounded_1", "oracle")
STYLES = (("#888888", "D"), ("#d55e00", "s"), ("#0072b2", "o"), ("#009e73", "^"), ("#cc79a7", "v"), ("#000000", "x"))
NOT_CANDIDATES = ("full", "random", "oracle")
MINIMUM_SEEDS = 3


def tidy(folder: Path) -> pd.DataFrame:
    """One row for each cell."""
    rows: list[dict[str, Any]] = []
    for path in sorted((folder / "cells").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        cell, versions = content.pop("cell"), content.pop("versions")
        cell["options"] = json.dumps(cell["options"], sort_keys=True)
        rows.append({"name": path.stem, **cell, **content, **{f"version_{n}": v for n, v in versions.items()}})
    return pd.DataFrame(rows)


def means(table: pd.DataFrame) -> pd.DataFrame:
    """For each setting and strategy: means over the seeds that plain fine-tuning has too, and differences.

    `nll_vs_full` is the mean over seeds of the difference to plain fine-tuning with the same seed, `nll_vs_full_half`
    the half-width of its 95 % interval (t distribution); `_vs_sstoken` likewise. A setting without both controls,
    and a strategy of fewer than three seeds, has no row.
    """
    rows = []
    for setting, group in table.groupby(SETTING, sort=False):
        by_strategy = {name: own.set_index("seed") for name, own in group.groupby("strategy", sort=False)}
        if not {"full", "random"} <= by_strategy.keys():
            continue
        for strategy, own in by_strategy.items():
            seeds = own.index.intersection(by_strategy[PLAIN].index)
            if len(seeds) < MINIMUM_SEEDS:
                continue
            row: dict[str, Any] = dict(zip(SETTING, setting, strict=True)) | {
                "strategy": strategy,
                "seeds": len(seeds),
            }
            for metric in METRICS:
                if own[metric].isna().any() if metric in own else True:
                    continue
                row[metric] = own.loc[seeds, metric].mean()
                for control in (PLAIN, PAPER):
                    if control in by_strategy:
                        row |= _difference(own[metric], by_strategy[control][metric], f"{metric}_vs_{control}")
            for name in ("keep_rate", "corrupted", "corrupted_of_kept", "corrupted_of_dropped", "memory_mb"):
                row[name] = own.loc[seeds, name].astype(float).mean()
            row["cpu"] = (own.cpu_seconds / by_strategy[PLAIN].cpu_seconds).loc[seeds].mean()
            row["cpu_seconds"] = own.loc[seeds, "cpu_seconds"].mean()
            rows.append(row)
    return pd.DataFrame(rows)


def _difference(own: pd.Series, control: pd.Series, name: str) -> dict[str, float]:
    differences = (own - control).dropna()
    n = len(differences)
    if n < MINIMUM_SEEDS:
        return {}
    return {name: differences.mean(), f"{name}_half": stats.t.ppf(0.975, n - 1) * differences.std() / n**0.5}


def verdict(row: Any, metric: str, control: str = PLAIN) -> str:
    """Whether a difference to the control is shown: `better`, `worse`, `same` if not, or `unknown`."""
    difference, half = row.get(f"{metric}_vs_{control}"), row.get(f"{metric}_vs_{control}_half")
    if row["strategy"] == control:
        return "same"
    if difference is None or pd.isna(difference):
        return "unknown"
    difference *= METRICS[metric][1]
    return "same" if abs(difference) <= half else "better" if difference > 0 else "worse"


def title(setting: Sequence[Any]) -> str:
    data, samples, epochs, precision, condition = setting
    data = {"gsm8k": f"{samples} answers of GSM8K"}.get(data, f"{samples} {data}")
    precision = {"bfloat16": "", "4bit": ", 4-bit"}.get(precision, f", {precision}")
    return f"{condition.replace('_', ' ')}: {data}{precision}, {epochs:g} epoch{'s' if epochs != 1 else ''}"


# In words


def words(averages: pd.DataFrame) -> str:
    """The verdict, from the numbers alone."""
    candidates = [name for name in dict.fromkeys(averages.strategy) if name not in NOT_CANDIDATES]
    parts = [
        "## In words\n",
        "Against plain fine-tuning (`full`) with the same data and seeds. *Better* and *worse* mean that the 95 % "
        "interval of the paired difference leaves out 0; with so many comparisons, about one in twenty that are in "
        "truth equal will look different. The first number is the held-out loss, in nats a token.\n",
    ]
    for setting, group in averages.groupby(SETTING, sort=False):
        found = {
            word: [
                f"`{row.strategy}` ({row.nll_vs_full:+.2f})"
                for _, row in group.sort_values("nll").iterrows()
                if row.strategy != PLAIN and verdict(row, "nll") == word
            ]
            for word in ("better", "same", "worse")
        }
        said = "; ".join(f"{_SAID[word]}: {', '.join(names)}" for word, names in found.items() if names)
        parts.append(f"- **{title(setting)}** ({group.seeds.min()} seeds or more). {said[0].upper()}{said[1:]}.")
    parts += ["", _hole(averages), "", _advice(averages, candidates), ""]
    return "\n".join(parts)


_SAID = {"better": "better", "same": "no difference shown", "worse": "worse"}


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
            and all(verdict(row, metric) in ("same", "better", "unknown") for row in clean for metric in METRICS)
            and all(verdict(row, "nll", PAPER) != "worse" for row in clean)
        ):
            safe.append(name)
    preferable = [
        name
        for name in candidates
        if (rows := [row for _, row in averages[averages.strategy == name].iterrows()])
        and not any(verdict(row, "nll", control) == "worse" for row in rows for control in (PLAIN, PAPER))
        and {verdict(row, "nll", PAPER) for row in rows if row["condition"] == "random_tokens"} == {"better"}
        and "better" in {verdict(row, "nll", PAPER) for row in rows if row["condition"] == "clean"}
    ]
    plain = averages[(averages.condition == "clean") & ~averages.strategy.isin(NOT_CANDIDATES)]
    beats_on_clean = sorted({row.strategy for _, row in plain.iterrows() if verdict(row, "nll") == "better"})
    return "\n".join(
        [
            "**What follows.**\n",
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


# Tables


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
            "95 % interval; **+** better, **-** worse.\n",
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
        "Means over seeds; in brackets the difference to `full` with the half-width of its 95 % interval, marked + "
        "where that is better and - where it is worse. *Noise*: the share of corrupted tokens among the kept and the "
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
    mark = {"better": " **+**", "worse": " **-**"}.get(verdict(row, metric), "")
    difference, half = row[f"{metric}_vs_{PLAIN}"], row[f"{metric}_vs_{PLAIN}_half"]
    difference = f"{difference:+.{decimals}f} ± {half:.{decimals}f}"
    return f"{own} ({difference}){mark}" if value else f"{difference}{mark}"


# The plot


def plot(averages: pd.DataFrame, path: Path) -> None:
    """How far each strategy's held-out loss is from plain fine-tuning's, in every setting."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "study"
    order = {name: number for number, name in enumerate(CONDITIONS)}
    settings = sorted((s for s, _ in averages.groupby(SETTING, sort=False)), key=lambda s: order[s[-1]])
    strategies = [name for name in PLOTTED if name in set(averages.strategy)]
    figure, axis = plt.subplots(figsize=(9, 0.11 * (len(strategies) + 1.5) * len(settings) + 1.6))
    step = 1 / (len(strategies) + 1.5)
    for number, strategy in enumerate(strategies):
        colour, marker = STYLES[number % len(STYLES)]
        axis.plot([], [], marker, color=colour, label=strategy)
        for _, row in averages[averages.strategy == strategy].iterrows():
            height = settings.index(tuple(row[SETTING])) + (number - (len(strategies) - 1) / 2) * step
            seen = verdict(row, "nll") != "same"
            axis.errorbar(
                row.nll_vs_full, height, xerr=row.nll_vs_full_half, fmt=marker, color=colour, ms=5, capsize=2, lw=1,
                mfc=colour if seen else "white",
            )  # fmt: skip
    for number in range(1, len(settings)):
        axis.axhline(number - 0.5, color="#dddddd", lw=0.8, zorder=0)
    axis.axvline(0, color="#444444", lw=0.9, zorder=0)
    axis.set_yticks(range(len(settings)), [title(setting).replace(": ", "\n") for setting in settings], fontsize=8)
    axis.set_ylim(len(settings) - 0.5, -0.5)
    means_shown = averages[averages.strategy.isin(PLOTTED)].nll_vs_full
    margin = 0.1 * (means_shown.max() - means_shown.min()) + 0.02
    axis.set_xlim(means_shown.min() - margin, means_shown.max() + margin)  # the longest intervals leave the plot
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel("better   <   held-out loss compared with plain fine-tuning, nats a token   >   worse", fontsize=9)
    axis.legend(fontsize=8, loc="upper right", title="filled: the 95 % interval\nleaves out 0", title_fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    plt.close(figure)


# All of it


def report(folder: Path, target: Path | None = None, planned: Sequence[str] = ()) -> None:
    """Writes study.csv and summary.md and, where there are enough seeds, summary.svg.

    Args:
        target: folder to write to, if not `folder`.
        planned: names of all cells of the grid; those that were not run are listed.
    """
    target = target or folder
    table = tidy(folder)
    if table.empty:
        print(f"No cells in {folder}.")
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
        parts += [words(averages), "![](summary.svg)\n", glance(averages), tables(averages)]
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
    parser.add_argument("folder", type=Path, help="where run.py wrote to")
    parser.add_argument("--to", type=Path, help="folder for the report (default: the same)")
    parser.add_argument("--grid", type=Path, default=Path(__file__).with_name("grid.yaml"))
    arguments = parser.parse_args()
    import yaml
    from run import cells

    planned = [cell.name for cell in cells(yaml.safe_load(arguments.grid.read_text(encoding="utf-8")))]
    report(arguments.folder, arguments.to, planned)


if __name__ == "__main__":
    main()
