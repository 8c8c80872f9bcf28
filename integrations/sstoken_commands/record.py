"""`sstoken record`: fills the store of a recorded history, with the flags or the YAML of the training.

sstoken record --config run.yaml --sstoken_history_store history
sstoken sft --config run.yaml --sstoken --sstoken_history recorded --sstoken_history_store history
"""

from __future__ import annotations

from collections.abc import Sequence

from sstoken_transformers.framework import split

from .doctor import own_flags
from .frameworks import fail, pick


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    rest, _, name = own_flags(argv)
    command = split(rest)
    try:
        return pick(command, name).record(command)
    except (ValueError, OSError) as error:
        return fail("record", error)
