"""The arms of the testbed for a reader: groups, links, and what is no method to switch on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from compare import PLAIN
from decisions import CONTROLS

DOCS = Path(__file__).parents[1]
LOW = "full_low_lr"
FAMILIES = {
    "rel": "by excess loss or attention",
    "likely": "by the model's own probabilities",
    "base": "by the base model, or held to it",
    "reference": "with a reference model",
    "other": "others",
}
"""Groups of methods, by the name of their colour."""
_MEMBERS = {
    "rel": (
        "sstoken",
        "signal",
        "sstoken_trimmed",
        "rel_less_surprise",
        "rel_plausible",
        "rel_soft",
        "unlearned_noise",
    ),
    "likely": ("dft", "infosft", "profit", "eaft", "power", "talr"),
    "base": ("prift", "stm", "trimmed", "grounded", "psft", "asft"),
}
"""By family, strategies."""


class Arms:
    """All arms of a table, by name, with the options that they ran with."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.options: Mapping[str, dict[str, object]] = {
            str(arm): json.loads(options) for arm, options in table.groupby("arm", sort=False).options.first().items()
        }

    def family(self, arm: str) -> str:
        """The group of a method, or '' for plain fine-tuning and controls."""
        options = self.options[arm]
        if arm in (PLAIN, LOW, *CONTROLS):
            return ""
        if self.needs_reference(arm):
            return "reference"
        if "anchor" in options:
            return "base"
        return next((name for name, members in _MEMBERS.items() if options["strategy"] in members), "other")

    def needs_reference(self, arm: str) -> bool:
        return "reference_adapter" in self.options[arm]

    def methods(self) -> list[str]:
        """Those that one could switch on, plain fine-tuning at lower rates among them."""
        return [arm for arm in self.options if arm not in (PLAIN, *CONTROLS)]

    def linked(self, arm: str) -> str:
        """In Markdown, with a link to its page where it has one."""
        options = self.options[arm]
        if arm == LOW:
            return "a [lower learning rate](methods/full.md)"
        if arm in CONTROLS:
            return f"`{arm}`"
        strategy = str(options["strategy"])
        if "anchor" in options:
            return f"[`{arm}`](anchor.md) (`anchor: {options['anchor']}`)"
        if not (DOCS / "methods" / f"{strategy}.md").exists():
            return f"`{arm}`²"
        signal = f" (`signal: {options['signal']}`)" if "signal" in options else ""
        return f"[`{arm}`](methods/{strategy}.md){signal}{'¹' if self.needs_reference(arm) else ''}"

    def shown(self, arm: str) -> str:
        """As in tables that have controls, too, which are in italics."""
        return f"*{arm}*" if arm in CONTROLS else self.linked(arm)

    def notes(self) -> list[str]:
        """What the raised numbers mean; only those that occur."""
        lines = []
        if any(map(self.needs_reference, self.options)):
            lines.append(
                "¹ Needs a reference model: here one that was trained on right samples, a quarter as many as there "
                "are data. The control `trusted` trains on those samples alone."
            )
        if any("²" in self.linked(arm) for arm in self.options):
            lines.append("² An experiment in `recipes/testbed/variants.py`, not a method of the package.")
        return lines
