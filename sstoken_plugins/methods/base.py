"""What a method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from ..data import Counts, Documents, Progress
from ..guard import expect
from ..options import NoOptions
from .selection import Selection

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes, which have to call it together."""


@dataclass(frozen=True)
class Controls:
    """How the selection follows from what a report shows, so that its reader can move the options.

        score    = v * scaled + (1 - v) * plain        v the option `blend[0]`, `scaled` and `plain` the columns after
                                                       it, the first of them min-maxed over what is eligible
        eligible = column > log(v)                     v the option `threshold[0]`, and the column after it
        kept     = the best fraction v of each sample  v the option `top`, by score, of what is eligible

    Each part may be None: then the score and what is eligible are those of the report, and all that is eligible is
    kept. `values` gives an option's value at this step where it is not the one that was set, as in a warm-up.
    """

    top: str | None = None
    blend: tuple[str, str, str] | None = None
    threshold: tuple[str, str] | None = None
    values: Mapping[str, float] = field(default_factory=dict)


class Method(ABC):
    """Turns signals into the weight of every token's loss.

    Attributes:
        Options: the dataclass of its options; an instance is `self.options`.
        selects: whether the weights are 0 and 1 alone. If so, dropped tokens can also lose their label, and the
            framework's own loss be taken over the others (`loss: framework`).
        evidence: what was measured here in comparison with plain fine-tuning; empty: nothing. Not inherited.
        reference: where it was published, such as "arXiv 2510.18250"; empty: here.
        histories: names of the histories that it is defined for; empty: any.
        history_explained: what they have in common, in a few words that follow "against".
    """

    kind = "method"
    Options: ClassVar[type[NoOptions]] = NoOptions
    selects: ClassVar[bool] = False
    evidence: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    histories: ClassVar[tuple[str, ...]] = ()
    history_explained: ClassVar[str] = "them"

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @abstractmethod
    def signals(self, progress: Progress) -> Sequence[str]:
        """Names of the signals that `weights` reads at this optimizer step."""

    @property
    def reads(self) -> frozenset[str]:
        """All that `signals` may ever name: the model is prepared for it before training."""
        names = self.signals(Progress(0, 1))
        is_right = isinstance(names, Iterable) and all(isinstance(name, str) for name in names)
        expect("method", type(self).__name__, self, "signals", names, is_right, "a list of names of signals")
        return frozenset(names)

    @abstractmethod
    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        """(B, S) weights: 0 drops a token, 1 keeps it, any other number re-weighs it, a negative one unlearns it.

        Values off the response are ignored. Has to depend on nothing but each document, the step and the method's own
        state, or another batch size, packing or number of processes would train something else.
        """

    def denominator(self, counts: Counts, progress: Progress) -> Tensor:
        """What each document adds to the number that the optimizer step's loss is divided by: (N,).

        It has to follow from what is known before any pass, because the loss of the first micro-batch is divided by
        the sum over all micro-batches and processes. Default: the number of response tokens, as in plain fine-tuning.
        What is negative, not finite, or above 1e4 for each response token stops the run.
        """
        return counts.n_response

    def n_kept(self, counts: Counts, progress: Progress) -> Tensor | None:
        """How many tokens of each document get a weight at most, if that is known before any pass: (N,) int64.

        Where it is known, the host need not ask the device how many there are. A method that gives weight to more
        stops the run.
        """
        return None

    # Methods with a memory

    def observe(self, selection: Selection) -> None:
        """Told of every micro-batch that trains, and of none that is only looked at."""

    def step_end(self, progress: Progress, reduce: Reduce) -> None:
        """Called after every optimizer step, on all processes; `progress` counts it in.

        What `observe` gathered should reach `weights` here and nowhere else: then the weights do not depend on how a
        step is cut into micro-batches.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs to continue exactly."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores `state_dict`."""

    # What reports show

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor | None:
        """(B, S) what the tokens of a document are ranked by; None if nothing ranks them."""
        return None

    def eligible(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        """(B, S) bool: the response tokens that may train at all."""
        return documents.response

    def controls(self, progress: Progress) -> Controls | None:
        """How a report's reader can select again; None: not at all."""
        return None

    def notes(self, progress: Progress) -> Sequence[str]:
        """What a reader of the weights at this step has to know, such as a warm-up."""
        return ()
