"""The result as one HTML file that needs nothing else, and no network."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from .result import AuditResult

HERE = Path(__file__).parent / "web"
MOST_ROWS, MOST_CHARACTERS = 2000, 1200


def render(result: AuditResult) -> str:
    """The page, of the `MOST_ROWS` most suspicious rows."""
    css = Markup((HERE / "audit.css").read_text("utf-8"))
    return _environment().get_template("audit.html").render(
        about=result.about, summary=result.summary(), findings=result.findings, data=pack(result), css=css,
        script=_script(), shown=min(len(result), MOST_ROWS), total=len(result),
    )  # fmt: skip


def pack(result: AuditResult) -> dict[str, Any]:
    """What the page's script reads."""
    rows = []
    suspicion, flagged = result.suspicion, result.flagged
    beside = {name: values for f in result.findings for name, values in f.check.columns.items()}
    for number in result.order()[:MOST_ROWS].tolist():
        prompt, answer = result.texts(number, MOST_CHARACTERS)
        rows.append(
            {
                "row": number,
                "suspicion": round(float(suspicion[number]), 4),
                "flagged": bool(flagged[number]),
                "checks": [i for i, f in enumerate(result.findings) if f.flagged[number]],
                "values": [_number(f.values[number]) for f in result.findings],
                "beside": [_number(values[number]) for values in beside.values()],
                "reasons": result.reasons(number),
                "prompt": prompt,
                "answer": answer,
            }
        )
    checks = [{"name": f.check.name, "title": f.check.title()} for f in result.findings]
    return {"checks": checks, "beside": list(beside), "rows": rows}


def _number(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None


@functools.cache
def _environment() -> jinja2.Environment:
    # `tojson` writes <, >, & and ' as \u escapes: nothing in the data can end a script element.
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )


@functools.cache
def _script() -> dict[str, Markup]:
    """The script, and the hash by which the page allows this one and no other."""
    text = "\n" + (HERE / "audit.js").read_text("utf-8")
    return {"text": Markup(text), "hash": Markup(base64.b64encode(hashlib.sha256(text.encode()).digest()).decode())}
