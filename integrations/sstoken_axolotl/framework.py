"""Axolotl, as the commands see it. Imports nothing of it before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from sstoken_plugins import hookimpl
from sstoken_plugins.errors import refused
from sstoken_transformers.framework import CommandLine, Framework, Look, Looked, Start, TrainingData

from .names import own_name

if TYPE_CHECKING:
    from sstoken_transformers.doctor.diagnosis import Diagnosis


class Axolotl(Framework):
    """Axolotl's SFT: a YAML with this project's plugin, and overrides as `--key=value`."""

    label, package, extra = "Axolotl", "axolotl", "axolotl"
    usage = "AXOLOTL.yaml [--key=value] [--block__key=value]"
    marks = frozenset(("base_model", "datasets", "sequence_len", "micro_batch_size", "plugins", "adapter"))
    model_option = "base_model"

    def naming(self, option: str) -> str:
        return own_name(option)

    def flag(self, option: str, value: str) -> str:
        return f"--sstoken__{own_name(option)}={value}"

    def examine(self, command: CommandLine) -> Diagnosis:
        from .doctor import examine

        return examine(_yaml(command), command.rest)

    def look(self, command: CommandLine, look: Look) -> AbstractContextManager[Looked]:
        from .inspection import looking

        return looking(_yaml(command), command.rest, look)

    def record(self, command: CommandLine) -> int:
        from .inspection import recording

        recording(_yaml(command), command.rest)
        return 0

    def record_reference(self, command: CommandLine, model: str) -> int:
        from .reference import recording_reference

        recording_reference(_yaml(command), command.rest, model)
        return 0

    def training_data(self, command: CommandLine) -> TrainingData:
        from .reading import training_data

        return training_data(_yaml(command), command.rest)

    def configuration(self, start: Start) -> str:
        from .starting import configuration

        return configuration(start)

    def training(self, path: Path) -> str:
        return f"axolotl train {path}"


def _yaml(command: CommandLine) -> Path:
    if command.yaml is None:
        raise refused("Name the YAML of Axolotl first.")
    return command.yaml


@hookimpl
def register_frameworks(register: Callable[[str, type[Framework]], None]) -> None:
    register("axolotl", Axolotl)
