"""One process of `sstoken record` with the flags and the YAML of `sstoken sft`.

accelerate launch -m sstoken_trl.record --config run.yaml --sstoken_history_store history
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .sft import end, launch, make_parser, make_trainer

SWITCHES = {"--sstoken": "true", "--sstoken_history": "recorded", "--sstoken_history_record": "true"}


def run(argv: Sequence[str]) -> int:
    """Runs one process of the recording; `argv` without the program's name. Returns how many samples were new."""
    parser = make_parser(prog="sstoken record")
    script_args, training_args, model_args, dataset_args = parser.parse_args_and_config(
        [*argv, *_switches()], fail_with_unknown_args=False
    )
    trainer = make_trainer(script_args, training_args, model_args, dataset_args)
    new: int = trainer.record_history()
    end(trainer)
    return new


def _switches() -> list[str]:
    """What makes a recording of a training: these flags win, since they come last."""
    return [part for flag, value in SWITCHES.items() for part in (flag, value)]


def main(argv: Sequence[str]) -> int:
    """Starts it with `accelerate launch`, whose own flags may be mixed in."""
    return launch(argv, "sstoken_trl.record", "sstoken record")


if __name__ == "__main__":
    run(sys.argv[1:])
