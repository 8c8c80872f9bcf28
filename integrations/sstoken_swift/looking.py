"""The trainer of a command line, without its training: for `sstoken inspect` and `sstoken record`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from sstoken_plugins.errors import refused
from sstoken_transformers.framework import CommandLine, Look, Looked

from .compat import make_trainer, read_arguments, yaml_flags
from .names import own_name
from .options import token_selection


def arguments(command: CommandLine) -> list[str]:
    """The flags of `swift sft`, those of a YAML first; sets what it has under `ENV`."""
    return [*(yaml_flags(str(command.yaml)) if command.yaml else ()), *command.rest]


@contextlib.contextmanager
def own_environment() -> Iterator[None]:
    """What is set in the environment inside is undone."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def looking(command: CommandLine, look: Look) -> Iterator[Looked]:
    """See `Framework.look`."""
    if look.adapter is not None:
        raise refused("Checkpoints of ms-swift cannot be looked at yet: leave out `--adapter`.")
    with own_environment():
        args = read_arguments([*arguments(command), "--output_dir", look.out, "--report_to", "none"])
        args.dataset = [f"{name}#{look.n_samples}" if "#" not in name else name for name in args.dataset]
        asked_for = token_selection()
        for option in ("report_steps", "history_record"):
            os.environ.pop(own_name(option), None)
        yield Looked(make_trainer(args), asked_for, None)


def record(command: CommandLine) -> int:
    """See `Framework.record`."""
    with own_environment():
        argv = arguments(command)
        if own_name("history_store") in os.environ:
            os.environ |= {own_name("history"): "recorded", own_name("history_record"): "true"}
        trainer: Any = make_trainer(read_arguments(argv))
        trainer.record_history()
    return 0
