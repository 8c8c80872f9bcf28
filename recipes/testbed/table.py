"""From the cells to one tidy table, one row each; items as strings of 0 and 1."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cell import Cell
from flaws import FLAWS
from grid import FIRST_TUNING_SEED
from tuning import retained, share

sys.path.append(str(Path(__file__).parents[1] / "evidence"))
from provenance import require_same

KEY = ["regime", "flaw"]


def collect(folder: Path) -> pd.DataFrame:
    """The table of the cells in `folder`.

    Raises:
        ValueError: if they are not of one code, base model, device and versions, or if there are none.
    """
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "cells").glob("*.json"))]
    if not results:
        raise ValueError(
            f"There are no cells in {folder / 'cells'}: run recipes/testbed/run.py with --output {folder}."
        )
    require_same(results)
    return pd.DataFrame([row(result) for result in sorted(results, key=_place)])


def _place(result: dict[str, Any]) -> tuple[Any, ...]:
    """Where a cell stands in tables and figures: the regime with most samples first, flaws as flaws.py has them, plain
    fine-tuning before all others."""
    cell = result["cell"]
    return -cell["samples"], list(FLAWS).index(cell["flaw"]), cell["arm"] != "full", cell["arm"], cell["seed"]


def row(result: dict[str, Any]) -> dict[str, Any]:
    """Of a cell: `skill` and `retention` in [0, 1] and losses in nats, on the items of its `split`."""
    cell, origin = result["cell"], result["provenance"]
    return {
        **asdict(Cell(**cell)),
        "options": json.dumps(cell["options"], sort_keys=True),
        "role": "tuning" if cell["seed"] >= FIRST_TUNING_SEED else "final",
        "skill": share(result["new"]),
        "retention": retained(result["old"]),
        **{name: result[name] for name in ("loss", "loss_tempered", "temperature")},
        "new": "b" + result["new"],  # the letter keeps it a string in a CSV
        "old": "b" + "".join(result["old"].values()),
        **{f"old_{name.replace(' ', '_')}": share(bits) for name, bits in result["old"].items()},
        **{f"auc_{name}": value for name, value in result["auc"].items()},
        **{name: result[name] for name in ("keep_rate", "spoiled", "spoiled_of_kept", "spoiled_of_dropped", "steps")},
        **{f"seconds_{name}": value for name, value in result["seconds"].items()},
        **{name: origin[name] for name in ("code", "revision", "base", "device", "machine")},
        **{f"version_{name}": value for name, value in origin["versions"].items()},
    }


def bits(cells: pd.Series) -> np.ndarray:
    """(seeds, items) of 0 and 1, from the strings of several cells."""
    return np.array([[character == "1" for character in cell[1:]] for cell in cells], dtype=float)


def final(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.role == "final"]
