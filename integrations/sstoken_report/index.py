"""The page that ties the reports of a run together."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from tqdm.auto import tqdm

from . import folder as files
from .columns import labels
from .page import render, template
from .summary import scalars
from .table import Report

logger = logging.getLogger(__name__)

# Readable on white and on near-black, and to colour-blind eyes.
BLUE, ORANGE = "#2f7fd0", "#d9761a"
# The text of the page, light or dark; no real colour, so that it can be told from those.
INK = "#010203"
PERCENT = ("keep_rate", "agreement")
GROUPS = ("kept", "dropped")
STRIPES, STRIPE_TOKENS, BLOCK = 6, 160, 16


def rebuild(folder: Path, progress: bool = False) -> list[int]:
    """Makes the index, and the pages that are missing, of the reports in a folder; names and leaves out damaged ones.

    Returns:
        The steps that it shows.
    """
    rows: list[dict[str, Any]] = []
    shown: list[Report] = []
    before = None
    for _, path in tqdm(files.reports(folder), desc="Reading reports", unit="report", disable=not progress):
        try:
            report = Report.read_parquet(path)
        except ValueError as error:
            logger.warning("%s It is left out of the index.", error)
            continue
        page = path.with_suffix(".html")
        if not page.exists():
            files.write_text(page, render(report, "index.html"))
        rows.append({"step": report.step, "page": page.name, **scalars(report, before)})
        shown.append(report)
        before = report
    files.write_text(folder / "index.html", _render(rows, shown))
    return [row["step"] for row in rows]


def _render(rows: Sequence[dict[str, Any]], shown: Sequence[Report]) -> str:
    named = labels(shown[-1].about) if shown else {}
    known = {name for row in rows for name in row}
    named = {name: label for name, label in named.items() if any(f"{name}_{group}" in known for group in GROUPS)}
    columns = ["keep_rate", "agreement", *(f"{name}_{group}" for name in named for group in GROUPS)]
    curves: dict[str, tuple[str, ...]] = {"Response tokens kept": ("keep_rate",)}
    curves |= {f"{label}, mean": tuple(f"{name}_{group}" for group in GROUPS) for name, label in named.items()}
    curves["Kept or dropped as in the report before"] = ("agreement",)
    cells = [
        [(f"{row[name]:.1%}" if name in PERCENT else f"{row[name]:.3f}") if name in row else "" for name in columns]
        for row in rows
    ]
    return template(
        "index.html",
        about=shown[-1].about if shown else None,
        head=list(named.values()),
        rows=list(zip(rows, cells, strict=True)),
        curves=[_curve(rows, title, names) for title, names in curves.items() if known & set(names)],
        stripes=_stripes(shown),
    )


def _curve(rows: Sequence[dict[str, Any]], title: str, names: Sequence[str]) -> Markup:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.4, 2.5), layout="constrained")
    axes = figure.add_subplot()
    for name in names:
        points = [(row["step"], row[name]) for row in rows if name in row]
        colour, line, label = (ORANGE, "--", "dropped") if name.endswith("dropped") else (BLUE, "-", "kept")
        if points:
            axes.plot(*zip(*points, strict=True), line, marker="o", markersize=3.5, color=colour, label=label)
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlim(rows[0]["step"] - 0.5, rows[-1]["step"] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if names[0] in PERCENT:
        axes.set_ylim(0, 1.02)
    axes.tick_params(colors=INK, labelsize=8)
    for spine in axes.spines.values():
        spine.set_edgecolor(INK)
        spine.set_linewidth(0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.15, color=INK)
    if len(names) > 1:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return _svg(figure, title)


def _stripes(shown: Sequence[Report]) -> list[dict[str, Any]]:
    """For the first samples, step by step, which of the first response tokens are kept."""
    if not shown:
        return []
    last = shown[-1]
    rows = [report for report in shown if report.columns["sample"].tobytes() == last.columns["sample"].tobytes()]
    drawn = []
    for number in range(min(STRIPES, last.n_samples)):
        here = (last.columns["sample"] == number) & last.response
        drawn.append(
            {
                "number": number + 1,
                "n_left": max(0, int(here.sum()) - STRIPE_TOKENS),
                "blocks": [
                    _block(rows, here, first) for first in range(0, STRIPE_TOKENS, BLOCK) if first < here.sum()
                ],
            }
        )
    return drawn


def _block(rows: Sequence[Report], here: np.ndarray, first: int) -> dict[str, Any]:
    """As many tokens as fit beside one another on a phone: a long response breaks where they end, in every step."""
    tokens = slice(first, min(first + BLOCK, STRIPE_TOKENS))
    return {
        "texts": [_visible(text) for text in rows[-1].columns["text"][here][tokens]],
        "steps": [(report.step, report.kept[here][tokens].tolist()) for report in rows],
    }


def _visible(text: str) -> str:
    """White space by name; a part of a character has a dot."""
    return text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣") or "·"


def _svg(figure: Any, title: str) -> Markup:
    """Inline SVG without a fixed size, whose text is text in the page's own colour."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}), io.StringIO() as buffer:
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1))
