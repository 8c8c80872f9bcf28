"""`sstoken record`: fills the store of a recorded history or reference, with the flags or the YAML of the training.

sstoken record --config run.yaml --sstoken_history_store history
sstoken sft --config run.yaml --sstoken --sstoken_history recorded --sstoken_history_store history

With `--as reference`, another model that has the same tokenizer is recorded. It is loaded alone, never in training:

sstoken record --as reference --model larger --config run.yaml --sstoken_reference_store reference
sstoken sft --config run.yaml --sstoken --sstoken_strategy rho1 --sstoken_reference_store reference
"""

from __future__ import annotations

from collections.abc import Sequence

from sstoken_transformers.choosing import pick
from sstoken_transformers.framework import reference_flags, split

from .doctor import own_flags
from .failing import fail


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    try:
        rest, model = reference_flags(argv)
        rest, _, name = own_flags(rest)
        command = split(rest)
        framework = pick(command, name)
        return framework.record(command) if model is None else framework.record_reference(command, model)
    except (ValueError, OSError) as error:
        return fail("record", error)
