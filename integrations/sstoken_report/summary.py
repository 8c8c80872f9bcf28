"""The numbers of a report that curves and trackers show."""

from __future__ import annotations

from collections import Counter

import numpy as np

from .table import Report


def totals(report: Report, before: Report | None) -> dict[str, tuple[float, int]]:
    """Sums and counts, whose quotients are `scalars`."""
    kept, dropped = report.kept, report.dropped
    found = {"keep_rate": (float(kept.sum()), int(report.response.sum()))}
    for name in report.about["columns"]:
        if report.knows(name):
            values = report.columns[name].astype(np.float64)
            for group, tokens in (("kept", kept), ("dropped", dropped)):
                of_group = values[tokens & np.isfinite(values)]
                found[f"{name}_{group}"] = float(of_group.sum()), len(of_group)
    if before is not None and _same_tokens(report, before):
        same = report.response & (report.kept == before.kept)
        found["agreement"] = float(same.sum()), int(report.response.sum())
    return found


def scalars(report: Report, before: Report | None = None) -> dict[str, float]:
    """Means over all samples: `keep_rate`, `X_kept` and `X_dropped` of every column X, and `agreement`: the share of
    response tokens that are kept or dropped as in the report `before`."""
    return {name: total / count for name, (total, count) in totals(report, before).items() if count}


def favourites(report: Report, number: int) -> tuple[list[tuple[str, int, int]], list[tuple[str, int, int]]]:
    """The tokens that are kept, and dropped, most often beyond what the keep rate gives a token of their frequency:
    text, times kept, times seen."""
    texts = report.columns["text"][report.response]
    seen, kept = Counter(texts), Counter(texts[report.kept[report.response]])
    rate = sum(kept.values()) / max(1, len(texts))
    beyond = {text: kept[text] - rate * count for text, count in seen.items()}
    order = sorted(beyond, key=lambda text: -beyond[text])
    most = [(text, kept[text], seen[text]) for text in order if beyond[text] > 0]
    least = [(text, kept[text], seen[text]) for text in reversed(order) if beyond[text] < 0]
    return most[:number], least[:number]


def _same_tokens(report: Report, other: Report) -> bool:
    return all(
        np.array_equal(report.columns[name], other.columns[name]) for name in ("sample", "token_id", "response")
    )
