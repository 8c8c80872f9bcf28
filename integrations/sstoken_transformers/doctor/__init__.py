"""`sstoken doctor`: will this environment, this configuration and these data work? No weights are loaded.

sstoken doctor --config run.yaml --sstoken       all flags and the YAML of `sstoken sft`
sstoken doctor axolotl.yaml --sstoken__rho=0.8   an Axolotl YAML, with the overrides of Axolotl's command line

The exit status is 0 if nothing stands in the way, 1 if the run would fail or train something else, 2 for a wrong
command line.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

USAGE = """sstoken doctor --config RUN.yaml [flags of `sstoken sft`]
       sstoken doctor AXOLOTL.yaml [--key=value] [--block__key=value]"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="sstoken doctor",
        usage=USAGE,
        description="Says whether this environment, this configuration and these data will work with token selection, "
        "without loading the model.",
        epilog="Exit status: 0 if nothing stands in the way, 1 if the run would fail or train something else, 2 for a "
        "wrong command line.",
        allow_abbrev=False,
    )
    parser.add_argument("yaml", nargs="?", type=Path, help="configuration of Axolotl, or of `sstoken sft`")
    parser.add_argument("--axolotl", action="store_true", help="the YAML is Axolotl's, whatever is in it")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    ours = [flag for flag in argv if flag in ("--axolotl", "--json", "-h", "--help")]
    theirs = [flag for flag in argv if flag not in ours]
    # The YAML comes before all flags that are not known here: behind one, a word is that flag's value.
    if theirs and not theirs[0].startswith("-"):
        ours.append(theirs.pop(0))
    options = parser.parse_args(ours)
    if options.yaml is None and not theirs:
        parser.error("name a configuration, or give the flags of `sstoken sft`")
    if options.yaml is not None and not options.yaml.is_file():
        parser.error(f"{options.yaml} is no file")

    for_axolotl = options.axolotl or (options.yaml is not None and is_axolotl(options.yaml))
    package = "axolotl" if for_axolotl else "trl"
    if importlib.util.find_spec(package) is None:
        print(f'This configuration is for {package}, not installed here: pip install "sstoken-plugins[{package}]"')
        return 1
    # What the frameworks print on the way is not the answer.
    with contextlib.redirect_stdout(sys.stderr):
        found = _examine(for_axolotl, options.yaml, theirs)
    from .output import show

    show(found, options.json)
    return 0 if found.healthy else 1


def _examine(for_axolotl: bool, yaml: Path | None, theirs: list[str]) -> Any:
    if for_axolotl:
        from sstoken_axolotl.doctor import examine

        return examine(yaml, theirs)
    from sstoken_trl.doctor import examine

    return examine([*(["--config", str(yaml)] if yaml else []), *theirs])


def is_axolotl(path: Path) -> bool:
    """Whether a YAML is a configuration of Axolotl."""
    import yaml

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return isinstance(content, dict) and "base_model" in content
