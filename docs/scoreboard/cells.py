"""The testbed's cells, and what is computed of them once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from compare import differences
from decisions import AXES, Decision, decisions
from table import final

from .arms import Arms


@dataclass(frozen=True)
class Testbed:
    """The cells of one regime, with all that is said of them."""

    table: pd.DataFrame
    predictions: Mapping[str, Any]

    @cached_property
    def found(self) -> pd.DataFrame:
        return differences(self.table)

    @cached_property
    def decided(self) -> list[Decision]:
        return list(decisions(self.found))

    @cached_property
    def arms(self) -> Arms:
        return Arms(final(self.table))

    @cached_property
    def tally(self) -> pd.DataFrame:
        """For each arm the mean difference on either axis, and on how many kinds of data it is marked."""
        every = pd.concat([one.arms.assign(flaw=one.flaw) for one in self.decided])
        rows = {}
        for arm, own in every.groupby(level=0, sort=False):
            rows[arm] = {axis: own[axis].mean() for axis in AXES} | {
                f"{axis}_{word}": int((own[f"{axis}_mark"] == word).sum())
                for axis in AXES
                for word in ("better", "worse")
            }
        return pd.DataFrame(rows).T

    def family(self, axis: str) -> int:
        """How many differences Holm's correction is over."""
        return int(self.found[self.found.measure == axis].p.notna().sum())
