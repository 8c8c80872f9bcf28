"""Which numbers a report shows of every token: what measurements and signals declare, none known by name."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from sstoken_plugins import Column, Selection, Signal, TokenSelector
from sstoken_plugins.registry import registered

logger = logging.getLogger(__name__)

DATA_WEIGHT = "data_weight"
OWN = ("sample", "row", "position", "token_id", "text", "response", "score", "eligible", "rank", "weight", "kept")
RESERVED = frozenset((*OWN, DATA_WEIGHT))
"""Names of a report's own columns."""


_OF_DATA = Column("weight of the data", "What the data say the token counts; it multiplies the weight of the method.")


class Columns:
    """The columns of one report: every measurement that was taken and every signal that it allows, if they declare a
    `Column`. A signal that the method does not read is shown too.

    Args:
        wanted: signals that are shown even if they declare no column.
    """

    def __init__(self, selector: TokenSelector, wanted: Iterable[str] = ()) -> None:
        self._measurements = {
            name: each.column for name, each in registered("measurement").items() if each.column is not None
        }
        names = {column.name or name for name, column in self._measurements.items()}
        self._signals: dict[str, tuple[Column, Signal]] = {}
        wanted = set(wanted)
        for name, kind in registered("signal").items():
            column = kind.column or (_column_of(name, kind) if name in wanted - names else None)
            if column is None:
                continue
            signal = selector.plan.signals.get(name)
            if signal is None:
                try:
                    signal = kind()
                except Exception as error:  # of a plugin that this run does not use
                    self._leave_out(name, error)
                    continue
            self._signals[name] = (column, signal)

    def of(self, selection: Selection) -> dict[str, tuple[Column, Tensor]]:
        """Values (B, S) by the name of the column, those that the method reads first."""
        found: dict[str, tuple[Column, Tensor]] = {}
        if (of_data := selection.measured.batch.weights) is not None:
            found[DATA_WEIGHT] = (_OF_DATA, of_data)
        for name, column, values in self._all(selection):
            name = column.name or name
            if name in RESERVED or name in found:
                continue
            found[name] = (column, values)
        return found

    def _all(self, selection: Selection) -> Iterator[tuple[str, Column, Tensor]]:
        measured = selection.measured
        of_measurements = {
            column.name or name: (column, measured[name])
            for name, column in self._measurements.items()
            if name in measured
        }
        for name in selection.signals:
            if name in of_measurements:
                yield name, *of_measurements[name]
            elif name in self._signals:
                yield name, self._signals[name][0], selection.signals[name]
        for name, (column, signal) in list(self._signals.items()):
            if name in selection.signals or not all(need in measured for need in signal.needs):
                continue
            try:
                values = signal(measured)
                if values.shape != measured.input_ids.shape:
                    raise TypeError(f"shape {tuple(values.shape)} in place of {tuple(measured.input_ids.shape)}")
            except Exception as error:  # of a plugin that this run does not use
                self._leave_out(name, error)
                del self._signals[name]
                continue
            yield name, column, values
        for name, (column, values) in of_measurements.items():
            yield name, column, values

    def zero_without_history(self) -> list[str]:
        """The columns that are 0 as long as the model is its own history."""
        return [column.name or name for name, (column, signal) in self._signals.items() if signal.zero_without_history]

    @staticmethod
    def _leave_out(name: str, error: Exception) -> None:
        logger.warning("Reports leave out the signal %r: %s: %s", name, type(error).__name__, error)


def described(column: Column) -> dict[str, Any]:
    """A column's declaration as JSON values, for `Report.about`."""
    return {name: value for name, value in dataclasses.asdict(column).items() if name != "name"}


def by_default(name: str) -> dict[str, Any]:
    """The same for a column without an explanation."""
    return described(Column(name.replace("_", " "), ""))


def labels(about: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a report's columns, by name."""
    return {name: column["label"] for name, column in about["columns"].items()}


def _column_of(name: str, kind: type) -> Column:
    first = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    return Column(name.replace("_", " "), " ".join(first.split()))
