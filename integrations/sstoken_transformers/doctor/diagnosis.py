"""What the doctor found."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sstoken_plugins.errors import Naming, Problem, as_is, problems_of

from .versions import Version

if TYPE_CHECKING:
    from sstoken_plugins import TokenSelector

OWN_LOGGERS = ("sstoken_plugins", "sstoken_transformers")


@dataclass
class ModelFacts:
    """What the architecture says without weights.

    Attributes:
        parameters: without the adapter.
        trainable: parameters that train.
        measured: where or how measurements are taken, such as {"attention": "layer 29 (LlamaAttention, sdpa)"}.
        memory: bytes that the history takes beyond a run without it, by where: "device", "host" or "disk".
    """

    architecture: str
    parameters: int
    trainable: int
    measured: dict[str, str] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)


@dataclass
class DataFacts:
    """Of the training data as they will be trained, for one epoch.

    Attributes:
        samples: documents, however they are packed.
        left_out: rows of the data as given that the framework does not train on; None if that is not known.
        kept_tokens: how many response tokens train at most; None without a valid selection, and where the strategy
            decides only while training.
        recorded: samples with a response that are in the store of history 'recorded'; None with another history.
    """

    samples: int = 0
    left_out: int | None = None
    without_prompt: int = 0
    without_response: int = 0
    prompt_tokens: int = 0
    response_tokens: int = 0
    kept_tokens: int | None = None
    recorded: int | None = None


@dataclass(frozen=True)
class Forecast:
    """What the selection would do at the first step, of some samples.

    Attributes:
        trained_tokens: response tokens whose weight is not 0.
        lowest_weight: of the response tokens; the others likewise.
        noise_tokens: response tokens that the model finds less likely than a tenth of a uniform guess.
        notes: what does not show before the first step.
    """

    samples: int
    response_tokens: int
    trained_tokens: int
    lowest_weight: float
    mean_weight: float
    highest_weight: float
    noise_tokens: int
    notes: tuple[str, ...] = ()


@dataclass
class Diagnosis:
    """Whether a run will work with token selection. What could not be looked at is None, and a problem says why.

    Attributes:
        problems: would stop the training or train the wrong thing; each with how to fix it.
        notes: worth knowing.
        outlook: what was measured of the method, and what to compare it with.
        naming: how the users of the framework write an option.
    """

    framework: str
    versions: list[Version]
    naming: Naming = as_is
    selection: str | None = None
    outlook: str | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    model: ModelFacts | None = None
    data: DataFacts | None = None
    forecast: Forecast | None = None

    @property
    def healthy(self) -> bool:
        return not self.problems

    def selected(self, selector: TokenSelector) -> None:
        """What the run selects by."""
        self.selection = selector.summary
        self.outlook = selector.outlook.text(self.naming) if selector.outlook else None

    def add(self, *problems: Problem | str) -> None:
        """Each problem once, however often it is met."""
        self._append(self.problems, problems)

    def note(self, *notes: Problem | str) -> None:
        """The same for what is worth knowing."""
        self._append(self.notes, notes)

    def _append(self, to: list[str], sentences: tuple[Problem | str, ...]) -> None:
        for sentence in sentences:
            text = sentence.text(self.naming) if isinstance(sentence, Problem) else sentence
            if text not in to:
                to.append(text)

    @contextlib.contextmanager
    def looking_at(self, what: str) -> Iterator[None]:
        """An error inside becomes a problem, and the examination continues; a warning becomes a note."""
        handler = _Notes(self)
        loggers = [logging.getLogger(name) for name in OWN_LOGGERS]
        for logger in loggers:
            logger.addHandler(handler)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of others, who will say it again when it matters
                yield
        except Exception as error:
            for problem in problems_of(error):
                text = problem.text(self.naming)
                self.add(text if isinstance(error, ValueError) and "`" in text else f"{what}: {text}")
        finally:
            for logger in loggers:
                logger.removeHandler(handler)

    def to_dict(self) -> dict[str, Any]:
        return {
            "healthy": self.healthy,
            "framework": self.framework,
            "selection": self.selection,
            "outlook": self.outlook,
            "problems": self.problems,
            "notes": self.notes,
            "versions": {version.package: dataclasses.asdict(version) for version in self.versions},
            "model": dataclasses.asdict(self.model) if self.model else None,
            "data": dataclasses.asdict(self.data) if self.data else None,
            "forecast": dataclasses.asdict(self.forecast) if self.forecast else None,
        }


class _Notes(logging.Handler):
    def __init__(self, found: Diagnosis) -> None:
        super().__init__(logging.WARNING)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.note(record.getMessage())
