"""What checks read: the rows, chunk by chunk, as text and as what the model says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .data import Source
from .formats import Format
from .samples import Sample

CHUNK = 256


@dataclass(frozen=True)
class RowScores:
    """What the model says of one row's response tokens; (n,) float32 each.

    Attributes:
        log_probs: `log p(token)` in nats, with the row's prompt.
        entropy: of the distribution before each token, in nats.
        unprompted: `log p(token)` without the prompt.
        exchanged: `log p(token)` with another row's prompt; None where that was not asked.
        end: `log p` of the mark that ends the answer; nan if there is none, or it was cut off.
        n_tokens: of the whole sample, with what was cut off.
        n_cut: how many of them were cut off.
    """

    log_probs: np.ndarray
    entropy: np.ndarray
    unprompted: np.ndarray
    exchanged: np.ndarray | None
    end: float
    n_tokens: int
    n_cut: int


@dataclass(frozen=True)
class Chunk:
    """Some rows that follow each other; `scores` is None where no model was asked."""

    samples: Sequence[Sample]
    scores: Sequence[RowScores] | None


class Rows:
    """All rows of the data.

    Attributes:
        vocabulary: size of the model's; 0 without a model.
        marks: special tokens of the tokenizer, as text.
        seed: of whatever a check draws at random.
    """

    def __init__(
        self,
        source: Source,
        form: Format,
        scores: Callable[[int], Sequence[RowScores]] | None = None,
        vocabulary: int = 0,
        marks: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self._source, self._form, self._scores = source, form, scores
        self.vocabulary, self.marks, self.seed = vocabulary, tuple(marks), seed

    def __len__(self) -> int:
        return len(self._source)

    @property
    def scored(self) -> bool:
        """Whether a model was asked."""
        return self._scores is not None

    def chunks(self) -> Iterator[Chunk]:
        for number in range(-(-len(self) // CHUNK)):
            yield Chunk(self.samples(number), None if self._scores is None else self._scores(number))

    def samples(self, chunk: int) -> list[Sample]:
        return [self.sample(i) for i in range(chunk * CHUNK, min(len(self), (chunk + 1) * CHUNK))]

    def sample(self, number: int) -> Sample:
        return self._form.read(self._source.row(number), number)

    def each(self) -> Iterator[Sample]:
        for chunk in self.chunks():
            yield from chunk.samples

    def each_scored(self) -> Iterator[tuple[Sample, RowScores]]:
        for chunk in self.chunks():
            assert chunk.scores is not None  # granted by `Check.needs_model`
            yield from zip(chunk.samples, chunk.scores, strict=True)
