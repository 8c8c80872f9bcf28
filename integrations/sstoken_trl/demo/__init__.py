"""`sstoken demo`: a real small model, real conversations, 4-bit, and a look at which tokens trained."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

STEPS, MINUTES = 60, 4


def main(argv: Sequence[str]) -> int:
    """Runs the demo; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="sstoken demo",
        description="Fine-tune SmolLM2-135M in 4-bit with ssToken on real conversations, a few minutes on two cores.",
    )
    parser.add_argument(
        "--output-dir", type=Path, default=Path("sstoken-demo"), help="for the adapter (./sstoken-demo)"
    )
    parser.add_argument(
        "--steps",
        type=_positive,
        help=f"optimizer steps, of 8 conversations each ({STEPS}, or what {MINUTES} minutes allow on a slow machine)",
    )
    parser.add_argument("--rho", type=float, default=0.6, help="fraction of the reply tokens that trains (0.6)")
    parser.add_argument(
        "--gamma", type=float, default=0.5, help="weight of the excess loss against the attention (0.5)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the data order and the adapter's first weights (0)")
    arguments = parser.parse_args(argv)

    os.environ["HF_HUB_OFFLINE"] = "1"  # everything comes from packages
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one is plenty, and DataParallel is not supported
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # reports optional kernels when it is imported
    # What takes seconds to import is imported when the command line is understood and the folder is free.
    from rich.console import Console

    from .errors import DemoError
    from .output import claim

    console = Console(highlight=False)
    try:
        console.print("[bold]ssToken demo[/bold]: SmolLM2-135M-Instruct in 4-bit, LoRA, real conversations")
        if claim(arguments.output_dir):
            console.print(f"Replacing the earlier demo run in {arguments.output_dir}")
        with console.status("Loading PyTorch, transformers and TRL"):
            from .run import run
        steps, minutes = (arguments.steps, None) if arguments.steps else (STEPS, MINUTES)
        run(console, arguments.output_dir, steps, minutes, arguments.rho, arguments.gamma, arguments.seed)
    except DemoError as error:
        print(f"sstoken demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsstoken demo: stopped; no adapter was saved.", file=sys.stderr)
        return 130
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value
