"""TRL, as the commands see it. Imports nothing of it before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from sstoken_plugins import hookimpl
from sstoken_transformers.framework import CommandLine, Framework, Look, Looked, Start, TrainingData

from .names import own_name

if TYPE_CHECKING:
    from sstoken_transformers.doctor.diagnosis import Diagnosis


class TRL(Framework):
    """TRL's SFT: the flags and the YAML of `sstoken sft`."""

    label, package, extra = "TRL", "trl", "trl,qlora"
    usage = "--config RUN.yaml [flags of `sstoken sft`]"
    marks = frozenset(("model_name_or_path", "dataset_name", "use_peft", "sstoken"))
    takes_flags = True

    def naming(self, option: str) -> str:
        return own_name(option)

    def examine(self, command: CommandLine) -> Diagnosis:
        from .doctor import examine

        return examine(arguments(command))

    def look(self, command: CommandLine, look: Look) -> AbstractContextManager[Looked]:
        from .inspection import looking

        return looking(arguments(command), look)

    def record(self, command: CommandLine) -> int:
        from .record import main

        return main(arguments(command))

    def training_data(self, command: CommandLine) -> TrainingData:
        from .reading import training_data

        return training_data(arguments(command))

    def configuration(self, start: Start) -> str:
        from .starting import configuration

        return configuration(start)

    def training(self, path: Path) -> str:
        return f"sstoken sft {path}"

    def record_reference(self, command: CommandLine, model: str) -> int:
        from .record import main_reference

        return main_reference(arguments(command), model)


def arguments(command: CommandLine) -> list[str]:
    """As TRL's own command line takes them: a YAML is named by a flag."""
    return [*(["--config", str(command.yaml)] if command.yaml else []), *command.rest]


@hookimpl
def register_frameworks(register: Callable[[str, type[Framework]], None]) -> None:
    register("trl", TRL)
