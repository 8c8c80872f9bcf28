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

from .table import Report

HERE = Path(__file__).parent / "web"
SCRIPTS = ("select.js", "overview.js", "tokens.js", "page.js")
# Enough for the page to select again exactly as the core does: float32 as they are.
FLOATS = ("log_prob", "history_log_prob", "attention", "prompt_gain", "entropy", "score")


def render(report: Report, index: str | None = None) -> str:
    """The page; `index` is the file name of the run's index, if there is one."""
    return template("page.html", report=report.about, data=pack(report), index=index, script=_script())


def pack(report: Report) -> dict[str, Any]:
    """What the page's scripts read: texts once each, the rest as the base64 of little-endian arrays."""
    columns, response = report.columns, report.response
    pairs = list(zip(columns["token_id"].tolist(), columns["text"], strict=True))
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    wide = len(number) > 1 << 16
    lengths = np.bincount(columns["sample"], minlength=report.n_samples)
    floats = {
        name: _base64(columns[name][response].astype("<f4"))
        for name in FLOATS
        # What follows from rho and gamma is computed in the page.
        if report.knows(name) and (name != "score" or report.about["reselect"] != "sstoken")
    }
    return {
        "about": report.about,
        "texts": [text for _, text in number],
        "ids": [token_id for token_id, _ in number],
        "lengths": lengths.tolist(),
        "tokens": _base64(np.array([number[pair] for pair in pairs], "<u4" if wide else "<u2")),
        "wide": wide,
        "response": _base64(response.astype("u1")),
        "kept": _base64(report.kept[response].astype("u1")),
        **floats,
    }


def template(name: str, **values: Any) -> str:
    """Fills a template of this package; what is filled in is escaped."""
    return _environment().get_template(name).render(css=Markup((HERE / "page.css").read_text("utf-8")), **values)


@functools.cache
def _environment() -> jinja2.Environment:
    # `tojson` writes <, >, & and ' as \u escapes, and everything beyond ASCII: nothing in it can end a script element.
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )


@functools.cache
def _script() -> dict[str, Markup]:
    """The scripts, and the hash by which the page allows these and no others."""
    text = "\n" + "".join((HERE / name).read_text("utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": Markup(text), "hash": Markup(digest)}


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
