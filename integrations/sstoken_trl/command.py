"""`sstoken sft`. Imports nothing of TRL to help."""

from __future__ import annotations

from collections.abc import Sequence

from .help import asked_for_help

PROG = "sstoken sft"


def main(argv: Sequence[str]) -> int:
    """Like `trl sft`, starts the training with `accelerate launch`, whose own flags may be mixed in."""
    if (status := asked_for_help(argv, PROG)) is not None:
        return status
    from .launch import launch

    return launch(argv, "sstoken_trl.sft", PROG)
