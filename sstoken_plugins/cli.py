"""The `sstoken` command. Sub-commands import what they need when they run: the core alone lists them all."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from . import __version__

# Sub-command: module and function that take the rest of the command line, the extra that installs them, help.
_COMMANDS = {
    "sft": (
        "sstoken_trl.sft:main",
        "trl,qlora",
        "fine-tune with TRL: all of `trl sft`'s flags and YAML, plus --sstoken",
    ),
    "demo": ("sstoken_trl.demo:main", "demo", "fine-tune a small real model in 4-bit and show which tokens trained"),
    "plugins": (
        "sstoken_plugins.cli:list_plugins",
        "",
        "list the signals, histories and strategies in this environment",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one sub-command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="sstoken",
        description="Train on the tokens that matter.",
        epilog="`sstoken COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sstoken-plugins {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, _, help) in _COMMANDS.items():
        commands.add_parser(name, help=help, add_help=False)
    command = parser.parse_known_args(argv[:1])[0].command
    if command is None:
        parser.print_help()
        return 0
    target, extra, _ = _COMMANDS[command]
    module, function = target.split(":")
    try:
        run = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        print(
            f"sstoken {command} needs the package {error.name!r}, which is not installed. Install it with\n"
            f'    pip install "sstoken-plugins[{extra}]"',
            file=sys.stderr,
        )
        return 1
    status: int | None = run(argv[1:])
    return status or 0


def list_plugins(argv: Sequence[str]) -> int:
    """Prints every registered name with the distribution it comes from."""
    argparse.ArgumentParser(prog="sstoken plugins", description=_COMMANDS["plugins"][2]).parse_args(argv)
    from . import plugins

    for kind, known in (
        ("strategy", plugins.strategies()),
        ("history", plugins.histories()),
        ("signal", plugins.signals()),
    ):
        for name, implementation in sorted(known.items()):
            summary = (implementation.__doc__ or "").strip().splitlines()
            print(f"{kind:9} {name:12} {implementation.__module__:32} {summary[0] if summary else ''}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
