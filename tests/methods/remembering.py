"""Losses that compare with earlier steps, as they are documented: full logits, autograd, and a memory in plain Python.

Each is made once a run and called once an optimizer step, with all answers of the step. It gives the loss by what was
seen before, and then remembers what it saw.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence

from torch import Tensor

from .published import Answer, over_tokens

BINS = 8192
NATS = 32.0
"""Losses and entropies count as at most this."""
ROUNDING = 1e-9
"""Of shares, so that what comes to a half does whatever it is the sum of."""
ALIKE = 2 / BINS
"""Ranks that differ by less are the same."""


def mean(values: Tensor) -> float:
    return values.detach().mean().item()


class Seen:
    """Numbers from 0 to `most` of earlier steps; those of `half_life` steps before the last one count half.

    Args:
        exact: otherwise a number is known by its bin, one of 8192, over which it may lie anywhere.
    """

    def __init__(self, most: float, half_life: float | None = None, exact: bool = False) -> None:
        self.width = 0.0 if exact else most / BINS
        self.half_life = half_life
        self.steps: list[list[float]] = []

    def add(self, values: Iterable[float]) -> None:
        self.steps.append(list(values))

    def counts(self) -> Counter[float]:
        """By the lower end of a bin, what its numbers count."""
        found: Counter[float] = Counter()
        for age, values in enumerate(reversed(self.steps)):
            for value in values:
                low = value // self.width * self.width if self.width else value
                found[low] += 1 if self.half_life is None else 0.5 ** (age / self.half_life)
        return found

    def mean(self) -> float:
        counts = self.counts()
        return sum((low + self.width / 2) * n for low, n in counts.items()) / counts.total()

    def deviation(self) -> float:
        counts, middle = self.counts(), self.mean()
        squares = sum((low + self.width / 2 - middle) ** 2 * n for low, n in counts.items())
        return (squares / counts.total()) ** 0.5

    def quantile(self, q: float) -> float:
        """What a share `q` is not above."""
        counts = self.counts()
        wanted = q * counts.total()
        for low, n in sorted(counts.items()):
            if n >= wanted - ROUNDING * counts.total():
                return low + wanted / n * self.width
            wanted -= n
        raise ValueError("more than all")

    def below(self, value: float) -> float:
        """The share that is below `value`."""
        counts = self.counts()
        parts = {low: (value - low) / self.width if self.width else float(low < value) for low in counts}
        return sum(min(max(parts[low], 0), 1) * n for low, n in counts.items()) / counts.total()


class Remembering(ABC):
    def __call__(self, answers: Sequence[Answer]) -> Tensor:
        loss = over_tokens(answers, lambda answer: self.weight(answer) * answer.nll)
        self.remember(answers)
        return loss

    @abstractmethod
    def weight(self, answer: Answer) -> Tensor | float:
        """Of each token, or of all."""

    @abstractmethod
    def remember(self, answers: Sequence[Answer]) -> None: ...


class TALR(Remembering):
    def __init__(self, floor: float = 0.01, half_life: float = 20.0, exact: bool = False) -> None:
        self.floor = floor
        self.losses = Seen(NATS, half_life, exact)

    def weight(self, answer):
        if not self.losses.steps:
            return 1.0
        return (answer.p.detach() ** (1 / self.losses.quantile(0.5))).clamp(min=self.floor)

    def remember(self, answers):
        self.losses.add(loss for answer in answers for loss in answer.nll.tolist())


class FLOW(Remembering):
    def __init__(self, exact: bool = False) -> None:
        self.base = Seen(NATS, exact=exact)

    def weight(self, answer):
        return (answer.log_q.mean() / self.base.quantile(0.5)).exp() if self.base.steps else 1.0

    def remember(self, answers):
        self.base.add(-mean(answer.log_q) for answer in answers)


class CADFT(Remembering):
    def __init__(self, beta: float = 1.0, half_life: float = 20.0, exact: bool = False) -> None:
        self.beta = beta
        self.losses = Seen(NATS, half_life, exact)

    def weight(self, answer):
        if not self.losses.steps:
            return answer.p.detach()
        z = (answer.nll.detach().mean() - self.losses.mean()) / max(self.losses.deviation(), 0.01)
        return answer.p.detach() * (-self.beta * z.relu()).exp()

    def remember(self, answers):
        self.losses.add(mean(answer.nll) for answer in answers)


class LossTruncation(Remembering):
    def __init__(self, drop: float = 0.4, hot_start: int = 1000, half_life: float = 20.0, exact: bool = False) -> None:
        self.drop, self.hot_start = drop, hot_start
        self.losses = Seen(NATS, half_life, exact)

    def weight(self, answer):
        if sum(len(step) for step in self.losses.steps) < max(1, self.hot_start):
            return 1.0
        return float(mean(answer.nll) <= self.losses.quantile(1 - self.drop))

    def remember(self, answers):
        self.losses.add(mean(answer.nll) for answer in answers)


class QTuning(Remembering):
    def __init__(
        self,
        samples: float = 0.5,
        tokens: float = 0.7,
        neighbours: float = 0.25,
        half_life: float = 20.0,
        exact: bool = False,
    ) -> None:
        self.samples, self.tokens, self.neighbours = samples, tokens, neighbours
        self.losses, self.entropies = Seen(NATS, half_life, exact), Seen(NATS, half_life, exact)
        self.standings = Seen(1, half_life, exact)

    def ranks(self, answer):
        return self.losses.below(mean(answer.nll)), self.entropies.below(mean(answer.entropy))

    def standing(self, answer):
        e, u = self.ranks(answer)
        return max(min(e, 1 - u), min(u, 1 - e))

    def weight(self, answer):
        if not self.standings.steps:
            return 1.0
        if self.standing(answer) <= self.standings.quantile(1 - self.samples) - ALIKE:
            return 0.0
        e, u = self.ranks(answer)
        return self.best(answer) if e > u - ALIKE else 1.0

    def best(self, answer):
        """1 for the tokens that are most perplexing, together with those beside them."""
        perplexity = dict(zip(answer.positions, answer.nll.detach().exp().tolist(), strict=True))
        beside = [perplexity.get(t - 1, 0) + perplexity.get(t + 1, 0) for t in answer.positions]
        pairs = zip(perplexity.values(), beside, strict=True)
        scores = [(1 - self.neighbours) * own + self.neighbours * others for own, others in pairs]
        ranked = sorted(range(len(scores)), key=lambda i: -scores[i])
        kept = ranked[: next(k for k in range(len(scores) + 1) if k >= self.tokens * len(scores))]
        return answer.nll.new_tensor([float(i in kept) for i in range(len(scores))])

    def remember(self, answers):
        if self.losses.steps:
            self.standings.add([self.standing(answer) for answer in answers])
        self.losses.add(mean(answer.nll) for answer in answers)
        self.entropies.add(mean(answer.entropy) for answer in answers)
