"""`sstoken doctor`: will this environment, this configuration and these data work? No weights are loaded.

sstoken doctor --config run.yaml --sstoken       all flags and the YAML of `sstoken sft`
sstoken doctor axolotl.yaml --sstoken__rho=0.8   a YAML of another framework, with its overrides
sstoken doctor --config run.yaml --forecast 32   with the weights: what the method would do on 32 samples

The exit status is 0 if no problems were found, 1 if the run would fail or train something else, 2 for a wrong command
line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

from sstoken_plugins.errors import Refused, refused
from sstoken_transformers.choosing import frameworks, pick
from sstoken_transformers.framework import split

from .failing import fail


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="sstoken doctor",
        usage="\n       ".join(f"sstoken doctor {each.usage}" for each in frameworks().values()),
        description="Says whether this environment, this configuration and these data will work with token selection, "
        "without loading the model.",
        epilog="Exit status: 0 if no problems were found, 1 if the run would fail or train something else, 2 for a "
        "wrong command line.",
        allow_abbrev=False,
    )
    parser.add_argument("yaml", nargs="?", help="configuration of a framework, told by its keys")
    parser.add_argument("--framework", choices=sorted(frameworks()), help="the framework, whatever is in the YAML")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--forecast",
        type=int,
        metavar="N",
        help="if nothing else is wrong, load the weights too, and say what the method would do on N samples",
    )
    parser.add_argument("--verbose", action="store_true", help="print what the framework prints, too")
    if not argv or {"-h", "--help"} & set(argv):
        parser.parse_args(["--help"] if argv else [])
        parser.error("name a configuration, or give the flags of a training")
    verbose = "--verbose" in argv
    rest, as_json, name = own_flags([each for each in argv if each != "--verbose"])
    try:
        rest, number = _forecast_flag(rest)
        command = split(rest)
        framework = pick(command, name)
    except Refused as error:
        if "not installed" in str(error):
            print(error)
            return 1
        return fail("doctor", error)
    try:
        with aside(verbose):
            found = framework.examine(command)
            if number and found.healthy:
                from .forecast import forecast

                with found.looking_at("The forecast"):
                    found.forecast = forecast(framework, command, number)
                    found.note(*found.forecast.notes)
    except Refused as error:
        return fail("doctor", error)
    from sstoken_transformers.doctor.output import show

    show(found, as_json)
    return 0 if found.healthy else 1


def _forecast_flag(argv: Sequence[str]) -> tuple[list[str], int | None]:
    """The arguments less `--forecast N`, and N.

    Raises:
        Refused: if it is no number of samples.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--forecast", default=None)
    known, rest = parser.parse_known_args(argv)
    if known.forecast is None:
        return rest, None
    if not known.forecast.isdigit() or int(known.forecast) == 0:
        raise refused("`--forecast` is {value!r}: set it to a number of samples, such as 32.", value=known.forecast)
    return rest, int(known.forecast)


@contextlib.contextmanager
def aside(verbose: bool) -> Iterator[None]:
    """What the frameworks print on the way, hundreds of lines, is not the answer: it goes into a file, which is shown
    if something breaks. With `verbose`, it goes to the standard error."""
    if verbose:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in kept:
                os.dup2(file.fileno(), number)
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield
        except Refused:
            raise
        except BaseException:
            file.seek(0)
            told = file.read()
            os.write(kept[2], told.encode("utf-8", "replace"))
            raise
        finally:
            file.flush()
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)


def own_flags(argv: Sequence[str]) -> tuple[list[str], bool, str | None]:
    """The arguments less `--json` and `--framework NAME`, and what those say."""
    rest, name = [each for each in argv if each != "--json"], None
    for i, each in enumerate(rest):
        flag, equals, value = each.partition("=")
        if flag == "--framework":
            name = value if equals else (rest[i + 1] if i + 1 < len(rest) else "")
            del rest[i : i + (1 if equals else 2)]
            break
    return rest, "--json" in argv, name
