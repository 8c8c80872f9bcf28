"""The predictions against the cells: which way REL points, predicted before training and measured after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
from compare import PLAIN
from predict import direction
from table import final


class Outcome(NamedTuple):
    """Of one regime and flaw: the AUC of REL at the end of plain fine-tuning."""

    regime: str
    flaw: str
    predicted: float
    measured: float
    seeds: int

    @property
    def hit(self) -> bool:
        return direction(self.predicted) == direction(self.measured)


def outcomes(table: pd.DataFrame, predictions: Mapping[str, Any]) -> list[Outcome]:
    """Of all that was both predicted and measured."""
    done = final(table)
    done = done[done.arm == PLAIN]
    found = []
    for regime in dict.fromkeys(done.regime):
        for flaw, predicted in predictions["flaws"].items():
            aucs = done[(done.regime == regime) & (done.flaw == flaw)].auc_rel.dropna()
            expected = predicted["regimes"].get(regime, {}).get("auc")
            if expected is not None and len(aucs):
                found.append(Outcome(regime, flaw, expected, float(aucs.mean()), len(aucs)))
    return found
