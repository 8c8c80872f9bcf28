"""How far it is, and how long it will take."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class Bar:
    """A bar with the time that is left, on standard error; nothing if it is not wanted."""

    def __init__(self, what: str, total: int, wanted: bool, unit: str = "row") -> None:
        self._bar: Any = None
        if wanted:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, desc=what, unit=unit, leave=False, dynamic_ncols=True)

    def __enter__(self) -> Bar:
        return self

    def step(self, number: int) -> None:
        if self._bar is not None:
            self._bar.update(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
