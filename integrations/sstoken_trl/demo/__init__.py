"""`sstoken demo`: a real small model, real conversations, 4-bit, and a look at which tokens trained."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> int:
    """Runs the demo; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="sstoken demo",
        description="Fine-tune SmolLM2-135M in 4-bit with ssToken on real conversations, a few minutes on two cores.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output-dir", type=Path, default=Path("sstoken-demo"), help="where the adapter is saved")
    parser.add_argument("--steps", type=_positive, default=60, help="optimizer steps, of 8 conversations each")
    parser.add_argument("--rho", type=float, default=0.6, help="fraction of the reply tokens that trains")
    parser.add_argument("--gamma", type=float, default=0.5, help="weight of the excess loss against the attention")
    parser.add_argument("--seed", type=int, default=0, help="of the data order and the adapter's first weights")
    arguments = parser.parse_args(argv)

    # What the demo needs beyond TRL is imported after the command line is understood.
    from .run import DemoError, run

    try:
        run(arguments.output_dir, arguments.steps, arguments.rho, arguments.gamma, arguments.seed)
    except (DemoError, ValueError) as error:
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
