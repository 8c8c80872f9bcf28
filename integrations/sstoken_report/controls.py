"""Selecting again, by the options that a method declares as movable: what `web/select.js` does, on arrays.

Nothing here knows a method. `about["controls"]` of a report has up to three parts, see `sstoken_plugins.Controls`:

    {"top":       {"option": "rho", "value": 0.6, ...},
     "blend":     {"option": "gamma", "value": 0.5, "scaled": "rel", "plain": "attention", ...},
     "threshold": {"option": "trim", "value": 0.1, "column": "history_plausibility", ...}}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sstoken_plugins import Controls, Documents, SSTokenConfig, all_options, keep_count, minmax

from .columns import DATA_WEIGHT

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Selected:
    """Arrays of a report's length; all but `score` are 0 or False on the prompt."""

    score: np.ndarray
    eligible: np.ndarray
    rank: np.ndarray
    kept: np.ndarray


def declared(controls: Controls | None, config: SSTokenConfig, columns: Columns) -> dict[str, Any] | None:
    """A method's controls as JSON values: for each part its option, the value, and the range it can be moved in.

    A part whose columns were not measured is left out, or cannot be moved.
    """
    if controls is None:
        return None
    found: dict[str, Any] = {}

    def part(option: str, least: float, most: float, movable: bool = True) -> dict[str, Any]:
        value = float(controls.values.get(option, getattr(config, option)))
        about = all_options()[option].help
        return {"option": option, "value": value, "least": least, "most": most, "movable": movable, "help": about}

    if controls.top is not None:
        found["top"] = part(controls.top, 0.01, 1.0)
    if controls.blend is not None:
        option, scaled, plain = controls.blend
        has_scaled, has_plain = scaled in columns, plain in columns
        blend = part(option, 0.0, 1.0, has_scaled and has_plain)
        if (has_scaled or blend["value"] == 0) and (has_plain or blend["value"] == 1):
            found["blend"] = {**blend, "scaled": scaled, "plain": plain}
    if controls.threshold is not None and controls.threshold[1] in columns:
        option, column = controls.threshold
        threshold = part(option, 0.0, 0.0)
        # The range holds all values, in powers of ten: the option is compared with the exponential of the column.
        values = columns[column][np.isfinite(columns[column])] / math.log(10)
        powers = [*values[:1], *values, math.log10(threshold["value"])]
        threshold |= {"least": math.floor(min(powers)), "most": math.ceil(max(powers))}
        found["threshold"] = {**threshold, "column": column}
    return found


def select(columns: Columns, controls: Mapping[str, Any]) -> Selected:
    """The selection that follows from a report's columns, in the arithmetic of the core.

    Without a part of the controls, `score` and `eligible` are those of the columns, and all that is eligible is kept.
    """
    response = torch.from_numpy(np.asarray(columns["response"], bool))[None]
    documents = Documents(torch.from_numpy(columns["sample"].astype(np.int64))[None], ~response, response)
    eligible = torch.from_numpy(np.asarray(columns["eligible"], bool))[None] & response
    if threshold := controls.get("threshold"):
        eligible = response & (_floats(columns, threshold["column"]) > math.log(threshold["value"]))
    score = _floats(columns, "score")
    if blend := controls.get("blend"):
        score, share = torch.zeros_like(score), blend["value"]
        if share > 0:
            score = score + share * minmax(_floats(columns, blend["scaled"]), documents, eligible)
        if share < 1:
            score = score + (1 - share) * _floats(columns, blend["plain"])
        score = torch.where(eligible, score, 0)
    rank, kept = ranks(score, eligible, documents), eligible
    if top := controls.get("top"):
        limit = documents.broadcast(keep_count(documents.n_response, top["value"]))
        kept = (rank > 0) & (rank <= limit)
    if DATA_WEIGHT in columns:  # what the data drop takes a rank, and does not train
        kept = kept & (_floats(columns, DATA_WEIGHT) != 0)
    return Selected(*(each[0].numpy() for each in (score, eligible, rank, kept)))


def ranks(score: Tensor, eligible: Tensor, documents: Documents) -> Tensor:
    """(B, S) int64, from 1 for the best of its document, as `keep_best` counts them; 0 if not eligible, and where
    nothing has a score."""
    response = documents.response.flatten()
    if not response.any() or score[documents.response].isnan().all():
        return torch.zeros_like(documents.ids)
    order = torch.where(eligible, score, -torch.inf).flatten().argsort(descending=True, stable=True)
    order = order[response[order]]
    document = documents.ids.flatten()[order]
    document, by_document = document.sort(stable=True)
    n_response = documents.n_response
    begin = n_response.cumsum(0) - n_response
    found = torch.zeros_like(documents.ids).flatten()
    found[order[by_document]] = torch.arange(1, len(document) + 1) - begin[document]
    return torch.where(eligible, found.view_as(documents.ids), 0)


def _floats(columns: Columns, name: str) -> Tensor:
    return torch.from_numpy(np.asarray(columns[name], np.float32))[None]
