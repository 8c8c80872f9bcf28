"""A comparison as one HTML file that needs nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .columns import labels
from .comparison import Comparison
from .page import base64_of, pack, script, template
from .table import Report

SCRIPTS = ("select.js", "overview.js", "tokens.js", "list.js", "compare.js")


def render(comparison: Comparison) -> str:
    """The page."""
    summaries = [report.about["summary"] for report in comparison.reports]
    return template(
        "compare.html",
        version=comparison.reports[0].about["version"],
        names=comparison.names,
        described=list(zip(comparison.names, summaries, strict=True)),
        weighted=comparison.weighted,
        totals=comparison.totals(),
        n_changed=comparison.changed.sum(1).tolist(),
        n=comparison.kept.shape[1],
        data=_pack(comparison),
        more_css="compare.css",
        script=script(SCRIPTS),
    )


def _pack(comparison: Comparison) -> dict[str, Any]:
    """The first report as its own page packs it, and what the others say of the same tokens."""
    first = comparison.reports[0]
    # Moving one method's options would say nothing of the other's.
    data = pack(dataclasses.replace(first, about={**first.about, "controls": None}))
    everyone = zip(comparison.names, comparison.reports, comparison.kept, comparison.weights, strict=True)
    data["compared"] = [
        {
            "name": name,
            "kept": base64_of(kept.astype("u1")),
            "weight": base64_of(weights.astype("<f4")),
            "columns": _columns(report),
        }
        for name, report, kept, weights in everyone
    ]
    return data


def _columns(report: Report) -> list[dict[str, str]]:
    shown = {**labels(report.about), **({"score": "score"} if report.knows("score") else {})}
    return [
        {"label": label, "values": base64_of(report.columns[name][report.response].astype(np.dtype("<f4")))}
        for name, label in shown.items()
    ]
