"""Reading an Axolotl YAML outside of a training."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from sstoken_plugins.errors import refused

from .compat import close_debug_log, override

ELSEWHERE = {
    "--data": "the file in `datasets`, with its `path` and `type`",
    "--columns": "the columns in `datasets`, as `field_messages`, or below `type` as `field_instruction` and "
    "`field_output`",
    "--model": "the model in `base_model`",
}
"""Flags of the commands under TRL, and where Axolotl has the same."""


def overrides_of(arguments: Sequence[str]) -> dict[str, Any]:
    """`--key=value` as Axolotl's command line reads it.

    Raises:
        ValueError: for an argument that is not written so.
    """
    options = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in ELSEWHERE:
            raise refused(
                "`{name}` is for TRL. Axolotl's YAML names {where}; `sstoken init --framework axolotl` writes one.",
                name=name,
                where=ELSEWHERE[name],
            )
        if not name.startswith("--") or not equals:
            raise refused("{argument!r} is not written as --key=value", argument=argument)
        if name.startswith("--sstoken_") and not name.startswith("--sstoken__"):
            raise refused(
                "{argument!r} is how TRL's users write it; here it is --sstoken__{option}={value}",
                argument=argument,
                option=name.removeprefix("--sstoken_"),
                value=value,
            )
        options[name.removeprefix("--")] = override(value)
    return options


@contextlib.contextmanager
def leaving_no_trace() -> Iterator[None]:
    """Axolotl leaves much behind in the environment, such as a wish to compile, and copies what is printed."""
    environment = dict(os.environ)
    os.environ.setdefault("AXOLOTL_TEE_STDOUT", "0")  # what is printed here is not for its log
    try:
        yield
    finally:
        close_debug_log()
        os.environ.clear()
        os.environ.update(environment)
