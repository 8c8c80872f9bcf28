"""`sstoken inspect`: which tokens would train, before a training or at one of its checkpoints.

sstoken inspect --model Qwen/Qwen3-0.6B --data chats.jsonl --assistant_only_loss
sstoken inspect --config run.yaml --adapter out/checkpoint-100 --rho 0.5
sstoken inspect axolotl.yaml --adapter out/checkpoint-100 --sstoken__rho=0.5
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from sstoken_report.inspection import InspectArguments, present, resume
from sstoken_transformers.choosing import frameworks, pick
from sstoken_transformers.framework import Look, split

from .doctor import own_flags
from .failing import fail


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one is plenty, and DataParallel is not supported
    own, rest = parse(argv)
    rest, _, name = own_flags(rest)
    command = split(rest)
    try:
        framework = pick(command, name)
        Path(own.out).mkdir(parents=True, exist_ok=True)
        with framework.look(command, Look(own.n_samples, own.adapter, own.out)) as looked:
            step = resume(looked.trainer.token_selector, Path(looked.adapter)) if looked.adapter else 0
            own.adapter = looked.adapter
            present(looked.trainer, own, looked.asked_for, step)
    except (ValueError, OSError) as error:
        return fail("inspect", error)
    return 0


def parse(argv: Sequence[str]) -> tuple[InspectArguments, list[str]]:
    """This command's own flags, and what is left for the framework."""
    parser = argparse.ArgumentParser(
        prog="sstoken inspect",
        usage="\n       ".join(f"sstoken inspect {each.usage}" for each in frameworks().values()),
        description="Shows which tokens would train: every flag and YAML of the training, and the following.",
        allow_abbrev=False,
    )
    for each in dataclasses.fields(InspectArguments):
        kind = int if isinstance(each.default, int) else str
        names = [f"--{each.name}", *each.metadata.get("aliases", ())]
        parser.add_argument(*names, type=kind, default=each.default, help=each.metadata["help"])
    known, rest = parser.parse_known_args(argv)
    return InspectArguments(**vars(known)), rest
