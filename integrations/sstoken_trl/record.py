"""One process of `sstoken record` with the flags and the YAML of `sstoken sft`.

accelerate launch -m sstoken_trl.record --config run.yaml --sstoken_history_store history
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from trl import TrlParser

from sstoken_plugins.errors import Refused

from .sft import end, launch, make_parser, make_trainer

SWITCHES = {"--sstoken": "true"}
RECORDED = {"--sstoken_history": "recorded", "--sstoken_history_record": "true"}
"""What is recorded where a store is named: then the training that reads it need not be full fine-tuning."""


def run(argv: Sequence[str]) -> int:
    """Runs one process of the recording; `argv` without the program's name. Returns how many samples were new."""
    parser = make_parser(prog="sstoken record")
    trainer = make_trainer(*_parse(parser, argv))
    new: int = trainer.record_history()
    end(trainer)
    return new


def _parse(parser: TrlParser, argv: Sequence[str]) -> tuple[Any, ...]:
    """The arguments, for history 'recorded' where they name a store, and else for the history that they name."""

    def parse(switches: Mapping[str, str]) -> tuple[Any, ...]:
        return tuple(parser.parse_args_and_config([*argv, *_flags(switches)], fail_with_unknown_args=False))

    try:
        return parse({**SWITCHES, **RECORDED})
    except Refused as without_store:
        try:
            parsed = parse(SWITCHES)
        except Refused:
            raise without_store from None
        if parsed[1].sstoken_history_store:
            raise
        return parsed


def _flags(switches: Mapping[str, str]) -> list[str]:
    """What makes a recording of a training: these flags win, since they come last."""
    return [part for flag, value in switches.items() for part in (flag, value)]


def main(argv: Sequence[str]) -> int:
    """Starts it with `accelerate launch`, whose own flags may be mixed in."""
    return launch(argv, "sstoken_trl.record", "sstoken record")


if __name__ == "__main__":
    run(sys.argv[1:])
