"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

TITLES = {"gsm8k": "GSM8K", "chats": "Short chats (chatterbot corpus)"}
BASELINES = ("loss", "ifd", "length", "tfidf", "random")


def write_table(cells: dict[str, Any], path: Path) -> None:
    """Means over seeds, with the lowest and the highest."""
    lines = [
        "# What `sstoken audit` finds",
        "",
        "Made by `evidence.py` with SmolLM2-135M-Instruct in float32. A tenth of the rows is spoiled in one way; each "
        "row of a table is the mean over the seeds, with the lowest and highest in brackets. AUC: the probability "
        "that a spoiled row is ranked above one that is not. Precision and recall are those of the check at its "
        "default threshold. Baselines: the loss, IFD, the (short) length, low TF-IDF cosine of prompt and answer, "
        "random.",
    ]
    for name in sorted({cell["set"] for cell in cells.values()}):
        chosen = [cell for cell in cells.values() if cell["set"] == name]
        lines += ["", f"## {TITLES[name]}: {len(chosen)} seeds, {chosen[0]['rows']} rows each", "", *_flaws(chosen)]
        lines += ["", "Rows without a planted flaw that each check flags:", "", *_clean(chosen)]
        lines += [
            "",
            "Does the false discovery rate of 10 % of `mismatch` hold, on resampled rows?",
            "",
            *_calibration(chosen),
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _flaws(cells: list[dict[str, Any]]) -> Iterable[str]:
    yield "| flaw, seeds | check | AUC | precision | recall | recall of all checks | " + " | ".join(BASELINES) + " |"
    yield "|---|---|" + "---|" * (4 + len(BASELINES))
    for flaw in dict.fromkeys(flaw for cell in cells for flaw in cell["flaws"]):
        found = [cell["flaws"][flaw] for cell in cells if flaw in cell["flaws"]]
        values = [_spread([one[key] for one in found]) for key in ("auc", "precision", "recall", "any_check_recall")]
        others = [_spread([one["baselines"].get(name) for one in found], brief=True) for name in BASELINES]
        yield (
            f"| {flaw}, {len(found)} seed{'s' * (len(found) > 1)} | {found[0]['check']} | "
            + " | ".join([*values, *others])
            + " |"
        )


def _clean(cells: list[dict[str, Any]]) -> Iterable[str]:
    yield "| check | share |"
    yield "|---|---|"
    for name in cells[0]["clean"]:
        yield f"| {name} | {_spread([cell['clean'][name] for cell in cells], percent=True)} |"


def _calibration(cells: list[dict[str, Any]]) -> Iterable[str]:
    yield "| share exchanged | estimated share | mean share of false flags | draws in which it exceeds 10 % | recall |"
    yield "|---|---|---|---|---|"
    for share in cells[0]["calibration"]:
        found = [cell["calibration"][share] for cell in cells]
        columns = ("estimated_share", "false_discoveries", "exceeded")
        values = [_spread([one[key] for one in found], percent=True) for key in columns]
        yield f"| {float(share):.0%} | " + " | ".join([*values, _spread([one["recall"] for one in found])]) + " |"


def _spread(values: list[float | None], brief: bool = False, percent: bool = False) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    form = "{:.1%}" if percent else "{:.2f}" if brief else "{:.3f}"
    mean, low, high = (form.format(value) for value in (np.mean(known), min(known), max(known)))
    return mean if brief or low == high else f"{mean} ({low} to {high})"
