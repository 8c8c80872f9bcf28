"""Data and model of a training, from its YAML: whatever framework that is for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from sstoken_transformers.choosing import pick
from sstoken_transformers.framework import CommandLine, TrainingData

from .data import Source, Table
from .errors import AuditError


@dataclass(frozen=True)
class Training:
    """A training, as its audit needs it.

    Attributes:
        source: its rows.
        other_tokens: see `TrainingData`.
    """

    source: Source
    tokenizer: Any
    loading: dict[str, Any]
    other_tokens: str | None


def read(arguments: argparse.Namespace) -> Training:
    """What `arguments` leave unset is set as the training has it: model, `max_length`, folder of the page.

    Raises:
        AuditError: if the YAML cannot be read, or no framework is for it.
    """
    given = arguments.config
    try:
        command = CommandLine(given, ())
        found: TrainingData = pick(command, arguments.framework).training_data(command)
    except (ValueError, TypeError, OSError, SystemExit) as error:
        raise AuditError(f"--config {given}: {error}") from error
    arguments.out = arguments.out or given.with_name(f"{given.stem}-audit")
    arguments.max_length = found.max_length
    loading = {**found.loading, "autocast": found.autocast}
    if arguments.model is not None:
        loading = {}  # another model is loaded as without a training
    arguments.model = arguments.model or found.model
    return Training(Table(found.rows, str(given)), found.tokenizer, loading, found.other_tokens)
