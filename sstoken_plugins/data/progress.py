"""What is known before any pass of the model: how far the training is, and how much there is to learn."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import Refused


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        step: optimizer steps done so far.
        total_steps: how many there will be; None if unknown.
    """

    step: int
    total_steps: int | None = None

    @property
    def fraction(self) -> float:
        """`step / total_steps`, from 0 to 1.

        Raises:
            Refused: if the number of steps is not known.
        """
        if not self.total_steps:
            raise Refused(
                "This method follows a schedule over the whole training, but the number of steps is not known: "
                "call `TokenSelector.begin(total_steps)` before the first step."
            )
        return min(1.0, self.step / self.total_steps)


@dataclass(frozen=True)
class Counts:
    """What the data alone say of each document with a response.

    Attributes:
        n_response: (N,) int64, number of its response tokens.
    """

    n_response: Tensor
