"""From the cells to one CSV, tables of differences to plain fine-tuning, and a figure.

python recipes/protocol/report.py outputs/protocol --to recipes/protocol/results/unrated
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.append(str(Path(__file__).parents[1] / "evidence"))
from grid import FIRST_TUNING_SEED, primary
from inference import LEVEL, crossed, detectable, holm, mark
from provenance import require_same

CELLS = "cells.jsonl"
PLAIN = "full"
CONTROLS = ("start", "full_low_lr", "random", "trusted", "oracle")
"""Arms that show what there is to gain or lose, and are not to be switched on."""
MEASURES = {
    "skill": ("new skill", 1),
    "loss_tempered": ("loss of right answers at the best temperature, nats", -1),
    "abilities": ("old abilities, accuracy", 1),
    "gold": ("old abilities, log-probability of the gold choice", 1),
}
"""By name: what tables call it, and the sign of an improvement."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, help="folder that run.py or a report wrote to")
    parser.add_argument("--to", type=Path, help="folder of the report (default: the same)")
    arguments = parser.parse_args(argv)
    try:
        report(arguments.cells, arguments.to)
    except ValueError as error:
        print(f"protocol: {error}", file=sys.stderr)
        return 2
    return 0


def report(folder: Path, to: Path | None = None) -> pd.DataFrame:
    """Writes cells.jsonl, results.csv, summary.md and summary.svg, prints the summary, and returns the table of the
    cells.

    Raises:
        ValueError: if cells that report are not of one code, model, device and versions.
    """
    results = load(folder)
    require_same(results)
    table = pd.DataFrame([row(result) for result in results])
    final = [result for result in results if result["cell"]["seed"] < FIRST_TUNING_SEED]
    found = differences(final)
    text = summary(results, final, found)
    print(text)
    to = to or folder
    to.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(result) + "\n" for result in results)
    (to / CELLS).write_text(lines, encoding="utf-8")
    table.to_csv(to / "results.csv", index=False)
    (to / "summary.md").write_text(text, encoding="utf-8")
    if len(found):
        from figure import draw

        draw(found, to / "summary.svg")
    print(f"Written to {to}: {CELLS}, results.csv, summary.md{', summary.svg' if len(found) else ''}")
    return table


def load(folder: Path) -> list[dict[str, Any]]:
    """What cells have left, in the order of their names: a file for each, or all in the one that reports write."""
    files = sorted((folder / "cells").glob("*.json"))
    texts = [path.read_text(encoding="utf-8") for path in files]
    if not texts and (folder / CELLS).is_file():
        texts = (folder / CELLS).read_text(encoding="utf-8").splitlines()
    return [json.loads(text) for text in texts]


def items(result: dict[str, Any], measure: str) -> np.ndarray:
    """(items,) of a cell; those of the tasks one after the other, each task counting the same (see `weights`)."""
    if measure == "skill":
        return np.array(primary(result))
    if measure in ("abilities", "gold"):
        key = "correct" if measure == "abilities" else "gold"
        return np.array([value for task in result["abilities"].values() for value in task[key]])
    return np.array(result["skill"][measure])


def weights(result: dict[str, Any], measure: str) -> np.ndarray | None:
    """(items,) such that tasks of different length count the same; None where all items do."""
    if measure not in ("abilities", "gold"):
        return None
    return np.array([1 / len(task["gold"]) for task in result["abilities"].values() for _ in task["gold"]])


def mean(result: dict[str, Any], measure: str) -> float:
    """Of a cell, over its items."""
    values = items(result, measure)
    return float(np.average(values, weights=weights(result, measure))) if len(values) else float("nan")


def row(result: dict[str, Any]) -> dict[str, Any]:
    """Of a cell, for the table."""
    cell, origin = result["cell"], result["provenance"]
    tasks = {f"task_{name}": float(np.mean(task["correct"])) for name, task in result["abilities"].items()}
    return {
        **{name: value for name, value in cell.items() if name not in ("options", "tasks")},
        "options": json.dumps(cell["options"], sort_keys=True),
        "role": "tuning" if cell["seed"] >= FIRST_TUNING_SEED else "final",
        **{measure: mean(result, measure) for measure in MEASURES},
        "loss": float(np.mean(result["skill"]["loss"])),
        "accuracy": float(np.mean(result["skill"]["accuracy"])),
        "temperature": result["skill"]["temperature"],
        **tasks,
        **{name: result[name] for name in ("keep_rate", "steps", "train_samples")},
        **{f"seconds_{name}": value for name, value in result["seconds"].items()},
        **{name: origin[name] for name in ("code", "revision", "device", "machine")},
        **{f"version_{name}": value for name, value in origin["versions"].items()},
    }


def differences(final: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Of each arm to plain fine-tuning, over the seeds that both have: the crossed bootstrap over seeds and items.

    Returns:
        By condition, arm and measure: `mean`, `plain`, `seeds`, what `inference.crossed` gives, `holm` (one family for
        each measure: all conditions and arms, without those in `CONTROLS`) and `detectable`, the smallest difference
        that this correction would mark for certain.
    """
    by: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for result in final:
        cell = result["cell"]
        by.setdefault((cell["condition"], cell["arm"]), {})[cell["seed"]] = result
    rows = []
    for (condition, arm), ours in by.items():
        theirs = by.get((condition, PLAIN), {})
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            continue
        for measure in MEASURES:
            pairs = np.array([items(ours[seed], measure) - items(theirs[seed], measure) for seed in seeds])
            if not pairs.size:
                continue
            rows.append(
                {
                    "condition": condition,
                    "arm": arm,
                    "measure": measure,
                    "seeds": len(seeds),
                    "mean": np.mean([mean(ours[seed], measure) for seed in seeds]),
                    "plain": np.mean([mean(theirs[seed], measure) for seed in seeds]),
                    **crossed(pairs, weights(ours[seeds[0]], measure)),
                }
            )
    found = pd.DataFrame(rows)
    if not len(found):
        return found
    found["holm"] = np.nan
    found["detectable"] = np.nan
    for _, group in found[~found.arm.isin((PLAIN, *CONTROLS))].groupby("measure"):
        found.loc[group.index, "holm"] = holm(group.p.to_numpy())
        found.loc[group.index, "detectable"] = [
            detectable(one.error, one.seeds, int(group.p.notna().sum())) for one in group.itertuples()
        ]
    return found


def summary(results: Sequence[dict[str, Any]], final: Sequence[dict[str, Any]], found: pd.DataFrame) -> str:
    if not len(found):
        return f"{len(results)} cells, none yet of an arm beside `{PLAIN}` with a seed that reports.\n"
    cell, origin = final[0]["cell"], final[0]["provenance"]
    seconds = sum(result["seconds"]["all"] for result in results)
    rates = {(one["cell"]["condition"], one["cell"]["arm"]): one["cell"]["learning_rate"] for one in final}
    lines = [
        "# The protocol\n",
        f"{len(final)} trainings that report, {len(results) - len(final)} that tuned; {cell['model']}, "
        f"{cell['precision']}, {cell['samples']} samples in batches of {cell['batch'] * cell['accumulation']}, LoRA r "
        f"{cell['lora_r']} alpha {cell['lora_alpha']}; {', '.join(cell['tasks'])} ({cell['limit'] or 'all'} items of "
        f"each); {origin['device']}, code {origin['code']}; {seconds / 3600:.1f} hours.\n",
        f"`{PLAIN}`: its mean. Others: the paired difference to it, and its 95 % interval over seeds and items. "
        f"**Bold**: below {LEVEL} after Holm's correction over a measure's differences, without the controls "
        f"({', '.join(f'`{name}`' for name in CONTROLS)}), which are not corrected and never marked. *Power*: the "
        "median over arms of the smallest difference that would have been marked for certain.\n",
    ]
    for condition, group in found.groupby("condition", sort=False):
        lines += [f"## `{condition}`\n", f"| | rate | seeds | {' | '.join(title for title, _ in MEASURES.values())} |"]
        lines.append("|---" * (len(MEASURES) + 3) + "|")
        for arm in sorted(dict.fromkeys(group.arm), key=lambda name: name != PLAIN):
            own = group[group.arm == arm].set_index("measure")
            shown = [_shown(own.loc[measure], sign) for measure, (_, sign) in MEASURES.items() if measure in own.index]
            lines.append(f"| `{arm}` | {rates[condition, arm]:g} | {own.seeds.iloc[0]} | {' | '.join(shown)} |")
        power = [group[group.measure == measure].detectable.median() for measure in MEASURES]
        lines += [f"| *power* | | | {' | '.join('' if np.isnan(p) else f'{p:.3f}' for p in power)} |", ""]
    return "\n".join(lines)


def _shown(one: Any, better: int) -> str:
    if one.arm == PLAIN:
        return f"{one['mean']:.3f}"
    reach = "" if np.isnan(one.low) else f" ({one.low:+.3f} to {one.high:+.3f})"
    text = f"{one.difference:+.3f}"
    return f"**{text}**{reach}" if mark(one, better) else f"{text}{reach}"


if __name__ == "__main__":
    sys.exit(main())
