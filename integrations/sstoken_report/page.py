"""A report as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from .columns import labels
from .table import Report

HERE = Path(__file__).parent / "web"
SCRIPTS = ("select.js", "overview.js", "tokens.js", "list.js", "page.js")


def render(report: Report, index: str | None = None) -> str:
    """The page; `index` is the file name of the run's index, if there is one."""
    named, controls = labels(report.about), report.about["controls"] or {}
    data = pack(report)
    scored, weighed = "score" in data or "blend" in controls, "weight" in data
    views = [*([("score", "score")] if scored else []), *named.items(), *([("weight", "weight")] if weighed else [])]
    return template(
        "page.html",
        report=report.about,
        version=report.about["version"],
        data=data,
        index=index,
        script=script(SCRIPTS),
        controls=controls,
        views=views,
        label=named.get,
        scored=scored,
        weighed=weighed,
    )


def pack(report: Report) -> dict[str, Any]:
    """What the page's scripts read: texts once each, the rest as the base64 of little-endian arrays."""
    columns, response = report.columns, report.response
    pairs = list(zip(columns["token_id"].tolist(), columns["text"], strict=True))
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    wide = len(number) > 1 << 16
    lengths = np.bincount(columns["sample"], minlength=report.n_samples)
    # What follows from the options that can be moved is computed in the page.
    controls = report.about["controls"] or {}
    optional: dict[str, np.ndarray] = {}
    if "blend" not in controls and report.knows("score"):
        optional["score"] = columns["score"].astype("<f4")
    if "threshold" not in controls and not columns["eligible"][response].all():
        optional["eligible"] = columns["eligible"].astype("u1")
    if not np.isin(columns["weight"][response], (0, 1)).all():
        optional["weight"] = columns["weight"].astype("<f4")
    return {
        "about": report.about,
        "texts": [text for _, text in number],
        "ids": [token_id for token_id, _ in number],
        "lengths": lengths.tolist(),
        "tokens": base64_of(np.array([number[pair] for pair in pairs], "<u4" if wide else "<u2")),
        "wide": wide,
        "response": base64_of(response.astype("u1")),
        "kept": base64_of(report.kept[response].astype("u1")),
        "rows": columns["row"][np.unique(columns["sample"], return_index=True)[1]].tolist(),
        # Enough for the page to select exactly as the core does: float32 as they are.
        "columns": {name: base64_of(columns[name][response].astype("<f4")) for name in report.about["columns"]},
        **{name: base64_of(values[response]) for name, values in optional.items()},
    }


def template(name: str, more_css: str = "", **values: Any) -> str:
    """Fills a template of this package; what is filled in is escaped.

    Args:
        more_css: name of a further style sheet.
    """
    css, more = (Markup((HERE / each).read_text("utf-8") if each else "") for each in ("page.css", more_css))
    return _environment().get_template(name).render(css=css, more_css=more, **values)


@functools.cache
def _environment() -> jinja2.Environment:
    # `tojson` writes <, >, & and ' as \u escapes, and everything beyond ASCII: nothing in it can end a script element.
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    made.policies["json.dumps_kwargs"] = {"sort_keys": False}  # columns have an order
    return made


@functools.cache
def script(names: tuple[str, ...]) -> dict[str, Markup]:
    """The scripts, and the hash by which the page allows these and no others."""
    text = "\n" + "".join((HERE / name).read_text("utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": Markup(text), "hash": Markup(digest)}


def base64_of(values: np.ndarray) -> str:
    """The bytes of an array, as text."""
    return base64.b64encode(values.tobytes()).decode()
