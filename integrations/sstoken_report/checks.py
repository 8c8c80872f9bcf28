"""Whether a file that was read holds a report, and what reports of earlier versions lack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .columns import RESERVED, by_default

# Version 0.1.0 wrote no checksum, declared no columns, and its pages knew its methods by name.
WITHOUT_CHECKSUM = ("0.1.0",)
NEEDED = ("sample", "position", "token_id", "text", "response", "score", "rank", "weight")
NEEDED_NOW = ("row", "eligible")


def is_current(about: Mapping[str, Any]) -> bool:
    """Whether the report has a checksum."""
    return about["version"] not in WITHOUT_CHECKSUM


def wrong_with(columns: Mapping[str, np.ndarray], about: Any) -> str | None:
    """What keeps a file from being a report, in a few words; None if nothing does."""
    if not isinstance(about, dict):
        return f"its head is {type(about).__name__}, not a mapping"
    expected: dict[str, type] = dict.fromkeys(("version", "summary", "model"), str)
    expected |= {"step": int, "config": dict, "notes": list}
    if about.get("version") not in WITHOUT_CHECKSUM:
        expected["columns"] = dict
    for name, kind in expected.items():
        if not isinstance(about.get(name), kind) or isinstance(about[name], bool):
            return f"its {name} is {about.get(name)!r:.40}"
    if about["step"] < 0:
        return f"its step is {about['step']}"
    if missing := [name for name in (*NEEDED, *(NEEDED_NOW * is_current(about))) if name not in columns]:
        return f"it lacks the column {missing[0]}"
    for name, column in about.get("columns", {}).items():
        if name not in columns or not _explains(column):
            return f"it lacks the column {name}, or what explains it"
    if is_current(about) and "controls" not in about:
        return "it lacks its controls"
    if wrong := _wrong_with_controls(about.get("controls"), about.get("columns", {})):
        return f"its {wrong}"
    sample = columns["sample"]
    if len(sample) and (sample[0] != 0 or not np.isin(np.diff(sample), (0, 1)).all()):
        return "its samples are not numbered from 0"
    if not all(isinstance(text, str) for text in columns["text"]):
        return "a token has no text"
    return None


def completed(columns: dict[str, np.ndarray], about: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The report as this version would have written it: one of version 0.1.0 shows its numbers, and nothing moves."""
    if is_current(about):
        return columns, about
    response = columns["response"]
    shown = [name for name, values in columns.items() if name not in RESERVED and _known(values[response])]
    columns = {
        **{name: values for name, values in columns.items() if name in RESERVED or name in shown},
        "row": np.full(len(response), -1, np.int32),
        "eligible": response.copy(),
    }
    return columns, {**about, "columns": {name: by_default(name) for name in shown}, "controls": None}


# What pages read of each part of `controls`, beside the columns that it names.
_PART: dict[str, type | tuple[type, ...]] = {
    "option": str, "value": (int, float), "least": (int, float), "most": (int, float), "movable": bool, "help": str,
}  # fmt: skip
_NAMED = {"top": (), "blend": ("scaled", "plain"), "threshold": ("column",)}


def _wrong_with_controls(controls: Any, columns: Mapping[str, Any]) -> str | None:
    if not isinstance(controls, dict | None):
        return f"controls are {controls!r:.40}"
    for name, part in (controls or {}).items():
        if name not in _NAMED or not isinstance(part, dict):
            return f"control {name!r:.40} is {part!r:.40}"
        for entry, kind in _PART.items():
            value = part.get(entry)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                return f"control {name!r} has {entry} {value!r:.40}"
        for entry in _NAMED[name]:
            # A column whose share is 0 need not have been measured.
            if not isinstance(part.get(entry), str) or (part[entry] not in columns and part["movable"]):
                return f"control {name!r} has {entry} {part.get(entry)!r:.40}, which is none of its columns"
    return None


def _explains(column: Any) -> bool:
    return isinstance(column, dict) and all(isinstance(column.get(name), str) for name in ("label", "explained"))


def _known(values: np.ndarray) -> bool:
    return bool((~np.isnan(values)).any())
