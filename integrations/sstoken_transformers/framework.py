"""What a fine-tuning framework has to provide, so that the commands work with it.

Register a class derived from `Framework` with the hook `register_frameworks`, from a module that imports the framework
only when it is used. `sstoken doctor`, `inspect` and `record` then pick it by the command line that they are given.
"""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sstoken_plugins.errors import refused

if TYPE_CHECKING:
    from sstoken_plugins import SSTokenConfig

    from .doctor.diagnosis import Diagnosis


@dataclass(frozen=True)
class CommandLine:
    """What a user gave a command, without the command's own flags.

    Attributes:
        yaml: the configuration that comes first, if one does.
        rest: everything else, as the framework's own command line would read it.
    """

    yaml: Path | None
    rest: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """What `sstoken inspect` wants of a framework, in addition to its command line.

    Attributes:
        n_samples: how many samples will be looked at.
        adapter: folder of a trained adapter, such as a checkpoint; None: before training.
        out: folder that the trainer may write into.
    """

    n_samples: int
    adapter: str | None
    out: str


@dataclass(frozen=True)
class Looked:
    """A trainer with token selection, ready to be asked what it would select.

    Attributes:
        trainer: a `transformers.Trainer` with `SSTokenTrainerMixin`.
        asked_for: the options as the user gave them.
        adapter: the adapter that the model has, if it was trained.
    """

    trainer: Any
    asked_for: SSTokenConfig
    adapter: str | None


@dataclass(frozen=True)
class TrainingData:
    """What a training reads, for `sstoken audit`.

    Attributes:
        rows: a sequence: as text, or with `input_ids` and `labels`.
        model: name or folder.
        loading: arguments of `from_pretrained` by which the training loads it: `dtype`, `quantization_config`, ...
        autocast: "no", "bf16" or "fp16".
        max_length: tokens that rows are cut to; None if they are not, or are already.
        tokenizer: of rows that come tokenised.
        other_tokens: an option by which rows of text train other tokens than `sstoken audit` scores, as a clause; None
            if there is none.
    """

    rows: Any
    model: str
    loading: Mapping[str, Any]
    autocast: str = "no"
    max_length: int | None = None
    tokenizer: Any = None
    other_tokens: str | None = None


@dataclass(frozen=True)
class Start:
    """What `sstoken init` knows of a run that is to be configured.

    Attributes:
        data: a file, a folder, or a data set of the hub.
        columns: the data's own columns by the names (prompt, completion, messages) that training knows; of these
            names alone where the data have them.
        from_value: whether messages have `from` and `value` in place of `role` and `content`.
        method: the option `strategy`.
        known: what was measured of that method.
        has_gpu: whether this machine has one.
        path: of the YAML.
    """

    model: str
    data: str
    columns: Mapping[str, str]
    from_value: bool
    method: str
    known: str
    has_gpu: bool
    path: Path


class Framework(ABC):
    """A fine-tuning framework, as the commands see it.

    Attributes:
        label: how people call it.
        package: the package that has to be installed.
        extra: of this project, which brings it.
        usage: a command line of it, for help texts.
        marks: keys that a YAML for it has, and others do not.
        takes_flags: whether its options can be given as flags alone, without a YAML.
        model_option: how it calls the model's name or folder.
    """

    kind = "framework"
    label: ClassVar[str]
    package: ClassVar[str]
    extra: ClassVar[str]
    usage: ClassVar[str]
    marks: ClassVar[frozenset[str]]
    takes_flags: ClassVar[bool] = False
    model_option: ClassVar[str] = "model_name_or_path"

    def recognises(self, settings: Mapping[str, Any]) -> int:
        """How many keys of a YAML speak for this framework."""
        return len(self.marks & settings.keys())

    @abstractmethod
    def naming(self, option: str) -> str:
        """How its users write an option of the selection."""

    def flag(self, option: str, value: str) -> str:
        """How an option of the selection is set on the command line."""
        return f"--{self.naming(option)}={value}"

    @abstractmethod
    def examine(self, command: CommandLine) -> Diagnosis:
        """Finds out whether a run would work, with a model without weights.

        Options and data are read by the framework itself.

        Raises:
            Refused: for a command line that cannot be read.
        """

    @abstractmethod
    def look(self, command: CommandLine, look: Look) -> AbstractContextManager[Looked]:
        """While open, there is the trainer that the framework would train with, and what it would train on.

        Raises:
            ValueError: for what the training would refuse too.
        """

    @abstractmethod
    def record(self, command: CommandLine) -> int:
        """Fills the store of history 'recorded' from the framework's own batches; returns the exit status."""

    def training_data(self, command: CommandLine) -> TrainingData:
        """What the training would read. Loads no weights.

        Raises:
            ValueError: for what the training would refuse too.
        """
        raise refused("`sstoken audit` cannot read configurations of {label}: name data and model.", label=self.label)

    def configuration(self, start: Start) -> str:
        """A YAML that trains, with comments, for `sstoken init`."""
        raise refused("`sstoken init` knows no configuration for {label}.", label=self.label)

    def training(self, path: Path) -> str:
        """The command that trains with a YAML."""
        raise refused("`sstoken init` knows no command for {label}.", label=self.label)

    def record_reference(self, command: CommandLine, model: str) -> int:
        """Fills the `reference_store` that the command line names with what another model says of the framework's own
        batches, tokenised as for the training; returns the exit status.

        Args:
            model: name or folder.
        """
        raise refused(
            "A reference cannot be recorded with {label}: train one as an adapter, and set {reference_adapter}.",
            label=self.label,
        )


def reference_flags(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments less `--as ROLE` and `--model MODEL`, and the model if the role is that of a reference.

    Raises:
        Refused: for another role, or none of the two without the other.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--as", dest="role", default="history")
    role, rest = parser.parse_known_args(argv)
    if role.role == "history":
        return rest, None
    if role.role != "reference":
        raise refused("`--as` is {role!r}: set it to 'history' or 'reference'.", role=role.role)
    parser.add_argument("--model")
    found, rest = parser.parse_known_args(argv)
    if not found.model:
        raise refused("`--as` is 'reference' but `--model` is not set: name the reference model or its folder.")
    return rest, found.model


def split(argv: Sequence[str]) -> CommandLine:
    """The configuration comes before all flags: behind one, a word is that flag's value."""
    if argv and not argv[0].startswith("-"):
        return CommandLine(Path(argv[0]), tuple(argv[1:]))
    return CommandLine(None, tuple(argv))
