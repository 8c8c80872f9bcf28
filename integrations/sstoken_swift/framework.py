"""ms-swift, as the commands see it. Imports nothing of it before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from sstoken_plugins import hookimpl
from sstoken_plugins.errors import refused
from sstoken_transformers.framework import CommandLine, Framework, Look, Looked, TrainingData

from .names import own_name

if TYPE_CHECKING:
    from sstoken_transformers.doctor.diagnosis import Diagnosis


class MsSwift(Framework):
    """ms-swift's `swift sft`: its YAML, or its flags with `--framework swift`."""

    label, package, extra = "ms-swift", "swift", "swift"
    usage = "RUN.yaml [flags of `swift sft`]"
    marks = frozenset(("external_plugins", "tuner_type", "torch_dtype", "dataset", "ENV", "model"))
    model_option = "model"

    def naming(self, option: str) -> str:
        return own_name(option)

    def flag(self, option: str, value: str) -> str:
        raise refused(
            "`sstoken compare` cannot vary {name}: ms-swift reads it from `ENV` of the YAML. Inspect two YAMLs, and "
            "compare their reports.",
            name=own_name(option),
        )

    def examine(self, command: CommandLine) -> Diagnosis:
        from .doctor import examine

        return examine(command)

    def look(self, command: CommandLine, look: Look) -> AbstractContextManager[Looked]:
        from .looking import looking

        return looking(command, look)

    def record(self, command: CommandLine) -> int:
        from .looking import record

        return record(command)

    def training_data(self, command: CommandLine) -> TrainingData:
        from .reading import training_data

        return training_data(command)


@hookimpl
def register_frameworks(register: Callable[[str, type[Framework]], None]) -> None:
    register("swift", MsSwift)
