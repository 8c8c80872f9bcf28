"""What was seen of a number in earlier optimizer steps: its mean, its spread and its quantiles.

Published methods often compare a sample with the batch that it is in. Then the batch size, the packing and the number
of processes change what is learned. Compared with earlier steps instead, a sample gets the same weight however its own
step is cut; the price is a lag of one step.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..data import Documents, Progress
from ..errors import refused
from ..options import NoOptions, option
from .base import Method, Reduce
from .selection import Selection

BINS = 8192
MOST_NATS = 32.0
"""Losses and entropies above this count as this."""
ROUNDING = 1e-9
"""Shares that differ by less are the same: sums of twelfths come to a little less than a half."""


class Lagged:
    """A histogram over earlier optimizer steps, of fixed size whatever was seen.

    Counts are whole numbers, so their sum is the same in any order: over micro-batches, over processes, and on a GPU.
    Earlier steps fade: each step, what was counted before is multiplied by `0.5 ** (1 / half_life)`.

    Approximate: a value is known to within its bin, `(high - low) / 8192` wide (0.004 nats for losses), over which
    values are taken to be spread evenly. Values outside [low, high] count as the nearer end.

    A step is counted on the device of its values and read back when it is over. What earlier steps amount to is kept
    on the host, in float64.

    Args:
        low, high: the range.
        half_life: optimizer steps after which what was seen counts half; None: it never fades.

    Attributes:
        n_seen: how many values were ever seen.
    """

    def __init__(self, low: float, high: float, half_life: float | None = None) -> None:
        self._low, self._width = low, (high - low) / BINS
        self._fading = 1.0 if half_life is None else 0.5 ** (1 / half_life)
        self._centres = low + (torch.arange(BINS, dtype=torch.float64) + 0.5) * self._width
        self._step = torch.zeros(BINS, dtype=torch.int64)
        self._set(torch.zeros(BINS, dtype=torch.float64), 0)

    def add(self, values: Tensor, counted: Tensor) -> None:
        """Notes values of the step that is under way: float and bool, of one shape. Does not wait for their device.

        Nothing that can be asked for changes before `commit`.
        """
        self._step = self._step.to(values.device)
        self._step.index_add_(0, self._place(values).long().flatten(), counted.flatten().long())

    def commit(self, reduce: Reduce) -> None:
        """Ends the step. All processes have to call it together."""
        counts = reduce(self._step).cpu()
        self._step = torch.zeros_like(self._step)
        self._set(self._histogram * self._fading + counts, self.n_seen + int(counts.sum()))

    def mean(self, otherwise: float) -> float:
        """`otherwise` if nothing was seen."""
        return float(torch.dot(self._share, self._centres)) if self.n_seen else otherwise

    def deviation(self, otherwise: float) -> float:
        """The standard deviation, of the population."""
        if not self.n_seen:
            return otherwise
        return math.sqrt(float(torch.dot(self._share, (self._centres - self.mean(0)).square())))

    def quantile(self, q: float, otherwise: float) -> float:
        """The lowest value that a share `q` of what was seen is not above."""
        if not self.n_seen:
            return otherwise
        q -= ROUNDING
        index = min(int(torch.searchsorted(self._up_to, q)), BINS - 1)
        inside = float(self._share[index])
        into = 1 - (float(self._up_to[index]) - q) / inside if inside > 0 else 0.0
        return self._low + (index + min(max(into, 0.0), 1.0)) * self._width

    def rank(self, values: Tensor, otherwise: float) -> Tensor:
        """The share of what was seen that is below each value, in [0, 1]: float32 of the shape of `values`."""
        if not self.n_seen:
            return torch.full_like(values, otherwise)
        share = self._share.to(values.device, torch.float32)
        up_to = self._up_to.to(values.device, torch.float32)
        place = self._place(values)
        index = place.long()
        return (up_to[index] - share[index] * (index + 1 - place)).clamp(0, 1)

    def state_dict(self) -> dict[str, Tensor]:
        """To be asked for between steps."""
        return {"histogram": self._histogram, "n_seen": torch.tensor(self.n_seen)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises:
        Refused: if it is another's.
        """
        histogram, n_seen = state.get("histogram"), state.get("n_seen")
        if histogram is None or n_seen is None or histogram.shape != self._histogram.shape:
            raise refused(
                "The checkpoint does not hold what {strategy} had seen so far: resume with the method that the run "
                "was started with."
            )
        self._step = torch.zeros_like(self._step)
        self._set(histogram.cpu(), int(n_seen))

    def _set(self, histogram: Tensor, n_seen: int) -> None:
        self._histogram, self.n_seen = histogram, n_seen
        self._share = histogram / histogram.sum().clamp(min=torch.finfo(torch.float64).tiny)
        self._up_to = self._share.cumsum(0)

    def _place(self, values: Tensor) -> Tensor:
        return ((values.float() - self._low) / self._width).clamp(0, BINS - 1 / 64)


@dataclass(frozen=True)
class LaggedOptions(NoOptions):
    half_life: float = option(
        20.0,
        "Optimizer steps after which what was seen counts half, where tokens or samples are compared with earlier "
        "ones.",
        valid=lambda steps: 0 < steps < math.inf,
        otherwise=", but it counts optimizer steps: set it above 0, for example 20.",
    )


class LaggedMethod(Method):
    """A method that compares with earlier steps.

    Attributes:
        lagged: the numbers it follows, by name.
    """

    Options: ClassVar[type[NoOptions]] = LaggedOptions

    def __init__(self, options: LaggedOptions | None = None) -> None:
        super().__init__(options)
        self.lagged: dict[str, Lagged] = self.follow()

    @abstractmethod
    def follow(self) -> dict[str, Lagged]:
        """Makes `lagged`."""

    @abstractmethod
    def observe(self, selection: Selection) -> None: ...

    def step_end(self, progress: Progress, reduce: Reduce) -> None:
        for name in sorted(self.lagged):
            self.lagged[name].commit(reduce)

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{of}.{name}": value for of, each in self.lagged.items() for name, value in each.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for of, each in self.lagged.items():
            start = f"{of}."
            each.load_state_dict({name.removeprefix(start): v for name, v in state.items() if name.startswith(start)})


def document_means(values: Tensor, documents: Documents) -> tuple[Tensor, Tensor]:
    """The mean of `values` (B, S) over each document's response tokens, (B*S,) by document number, and whether there
    are any, (B*S,) bool."""
    n = documents.n_response
    return documents.sum(values) / n.clamp(min=1), n > 0
