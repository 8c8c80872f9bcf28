"""The `sstoken` command. Sub-commands import what they need when they run: the core alone is enough to list them."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import NamedTuple

from . import __version__
from .errors import Refused
from .installing import how_to_install


class _Command(NamedTuple):
    target: str  # "module:function"; the function takes the rest of the command line
    help: str
    extras: str = ""
    packages: tuple[str, ...] = ()  # what the extras bring and the command cannot do without


_COMMANDS = {
    "sft": _Command(
        "sstoken_trl.command:main",
        "fine-tune with TRL: all of `trl sft`'s flags and YAML, plus --sstoken",
        "trl,qlora",
        ("trl", "peft"),
    ),
    "init": _Command(
        "sstoken_commands.init:main",
        "write a YAML that trains, for TRL or Axolotl, from three answers or flags",
        "trl,qlora",
        ("datasets",),
    ),
    "record": _Command(
        "sstoken_commands.record:main",
        "compute the history of the training data once, before training: the flags of `sstoken sft`",
        "trl,qlora",
        ("transformers",),
    ),
    "inspect": _Command(
        "sstoken_commands.inspect:main",
        "show which tokens of your data would train, before training or at a checkpoint",
        "trl,report",
        ("transformers", "rich", "jinja2", "pyarrow"),
    ),
    "compare": _Command(
        "sstoken_commands.compare:main",
        "show which tokens change between methods, options, models, checkpoints or report files",
        "trl,report",
        ("transformers", "rich", "jinja2", "pyarrow"),
    ),
    "audit": _Command(
        "sstoken_audit.command:main",
        "score every row of your data before you train on it, and list those that do not belong",
        "audit",
        ("transformers", "datasets", "rich", "jinja2", "pyarrow", "scipy", "tqdm", "datasketch"),
    ),
    "report": _Command(
        "sstoken_report.command:main",
        "build the pages that a training wrote with `report_steps` again, also of a run that was killed",
        "report",
        ("jinja2", "matplotlib", "pyarrow", "tqdm"),
    ),
    "doctor": _Command(
        "sstoken_commands.doctor:main",
        "say whether a run will work with token selection, before it loads the model",
        "trl,qlora",
        ("transformers", "rich"),
    ),
    "demo": _Command(
        "sstoken_trl.demo:main",
        "fine-tune a small real model in 4-bit and show which tokens trained",
        "demo",
        ("trl", "peft", "bitsandbytes", "rich", "gguf", "chatterbot_corpus", "platformdirs"),
    ),
    "plugins": _Command(
        "sstoken_plugins.cli:list_plugins",
        "list the methods, with what they cost, and the histories, signals, measurements and frameworks here",
        "report",
        ("rich",),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one sub-command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="sstoken",
        description="Train on the tokens that matter.",
        epilog="`sstoken COMMAND --help` tells more.",
    )
    parser.add_argument("--version", action="version", version=f"sstoken-plugins {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, known in _COMMANDS.items():
        commands.add_parser(name, help=known.help, add_help=False)
    name = parser.parse_args(argv[:1]).command
    if name is None:
        parser.print_help()
        return 0
    command = _COMMANDS[name]
    # Looking is quicker than importing, and finds all that is missing at once.
    missing = [package for package in command.packages if importlib.util.find_spec(package) is None]
    if missing:
        print(
            f"sstoken {name} needs {', '.join(missing)}, not installed here. Install with\n"
            f"    {how_to_install(command.extras)}",
            file=sys.stderr,
        )
        return 1
    module, function = command.target.split(":")
    try:
        status: int | None = getattr(importlib.import_module(module), function)(argv[1:])
    except Refused as error:
        print(f"sstoken {name}: {error}", file=sys.stderr)
        return 2
    return status or 0


def list_plugins(argv: Sequence[str]) -> int:
    """Prints every registered name, and the installed packages that registered some."""
    argparse.ArgumentParser(prog="sstoken plugins", description=_COMMANDS["plugins"].help).parse_args(argv)
    from . import listing

    listing.show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
