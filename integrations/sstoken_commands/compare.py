"""`sstoken compare`: the same samples under several methods, options, models or checkpoints.

sstoken compare look/sstoken-inspect.parquet other/sstoken-inspect.parquet       reports, without a model
sstoken compare --model M --data chats.jsonl --vary strategy=sstoken,grounded    two methods
sstoken compare --config run.yaml --vary adapter=none,out/checkpoint-100         before training, and a checkpoint
sstoken compare axolotl.yaml --vary rho=0.4,0.6,0.8
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sstoken_plugins import all_options
from sstoken_plugins.errors import refused
from sstoken_report import folder as files
from sstoken_report.comparison import Comparison
from sstoken_report.inspection import look_at, resume
from sstoken_report.table import Report
from sstoken_transformers.choosing import frameworks, pick
from sstoken_transformers.framework import CommandLine, Framework, Look, split

from .doctor import own_flags
from .failing import fail

INSPECTED = "sstoken-inspect.parquet"
MOST = 12
"""Reports that a page can still show side by side."""

Setting = tuple[str, str]


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one is plenty, and DataParallel is not supported
    own, rest = make_parser().parse_known_args(argv)
    rest, _, name = own_flags(rest)
    try:
        named = list(_looked(own, split(rest), name) if own.vary else _read(rest))
        given = own.names.split(",") if own.names else [name for name, _ in named]
        if len(given) != len(named):
            raise refused("--names has {n} names for {m} reports: name each.", n=str(len(given)), m=str(len(named)))
        _present(Comparison([report for _, report in named], given), own)
    except (ValueError, OSError) as error:
        fail("compare", error)
        return 1
    return 0


def make_parser() -> argparse.ArgumentParser:
    usages = [f"sstoken compare {each.usage} --vary OPTION=A,B" for each in frameworks().values()]
    parser = argparse.ArgumentParser(
        prog="sstoken compare",
        usage="\n       ".join(["sstoken compare REPORT REPORT [...]", *usages]),
        description="Shows which tokens change their status: between report files (.parquet, or the folder of a run "
        "or an inspection; no model is needed), or between methods, options, models and checkpoints, with every flag "
        "and YAML of `sstoken inspect`.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--vary", action="append", default=[], metavar="OPTION=A,B",
        help="an option of the selection, `model` or `adapter`, and its values; `adapter=none,...` is before "
        "training; may be repeated, for all combinations",
    )  # fmt: skip
    add("--names", help="names of what is compared, separated by commas")
    add("-n", "--n_samples", type=int, default=50, help="how many samples to score (default: 50)")
    add("--out", type=Path, default=Path("."), help="folder for sstoken-compare.html, .parquet and .json")
    add("--show", type=int, default=3, help="how many samples with changes to print (default: 3)")
    return parser


def _read(arguments: Sequence[str]) -> Iterator[tuple[str, Report]]:
    """The report files that are named, whole before any is shown."""
    if flags := [each for each in arguments if each.startswith("-")]:
        raise refused(
            "{flags} are flags of a training, but nothing is varied: add --vary OPTION=A,B, as in --vary "
            "strategy=sstoken,grounded.",
            flags=", ".join(flags),
        )
    if len(arguments) < 2:
        raise refused("Name two or more reports, or what to vary: --vary strategy=sstoken,grounded.")
    paths = [_report_file(Path(each)) for each in arguments]
    for argument, path in zip(arguments, paths, strict=True):
        yield argument, Report.read_parquet(path)


def _report_file(path: Path) -> Path:
    """The report that a path names: a file, or the one in a folder: of an inspection, or a run's last."""
    if path.is_file():
        return path
    if (path / INSPECTED).is_file():
        return path / INSPECTED
    places = (path / files.FOLDER, path / files.FOLDER_BEFORE, path)
    found = next((there for there in map(files.reports, places) if there), [])
    if not found:
        raise refused(
            "{path} is no report: name a .parquet that `sstoken inspect` or `report_steps` wrote, or its folder.",
            path=str(path),
        )
    return found[-1][1]


def _looked(own: argparse.Namespace, command: CommandLine, name: str | None) -> Iterator[tuple[str, Report]]:
    """What would be selected under each setting; one model at a time is in memory."""
    variants = _variants(own.vary)
    framework = pick(command, name)
    own.out.mkdir(parents=True, exist_ok=True)
    for settings in variants:
        yield _label(settings), _look(framework, command, settings, own)
        gc.collect()  # a trainer holds itself by circles


def _variants(vary: Sequence[str]) -> list[tuple[Setting, ...]]:
    """All combinations of the values.

    Raises:
        Refused: for what cannot be varied, or too many.
    """
    options: list[list[Setting]] = []
    for text in vary:
        option, equals, values = text.partition("=")
        option = option.lstrip("-").removeprefix("sstoken__").removeprefix("sstoken_")
        if not equals or option not in {"model", "adapter", *all_options()}:
            raise refused(
                "--vary is {text!r}: write model=A,B, adapter=A,B or an option of the selection with its values, such "
                "as strategy=sstoken,grounded.",
                text=text,
            )
        options.append([(option, value) for value in values.split(",") if value])
    found = list(itertools.product(*options))
    if not 2 <= len(found) <= MOST:
        raise refused("--vary gives {n} settings: 2 to {most} can be compared.", n=str(len(found)), most=str(MOST))
    return found


def _label(settings: Sequence[Setting]) -> str:
    if len(settings) == 1:
        return settings[0][1]
    return " ".join(f"{option}={value}" for option, value in settings)


def _look(framework: Framework, command: CommandLine, settings: Sequence[Setting], own: argparse.Namespace) -> Report:
    flags, adapter = [], None
    for option, value in settings:
        if option == "adapter":
            adapter = None if value == "none" else value
        elif option == "model":
            flags.append(f"--{framework.model_option}={value}")
        else:
            flags.append(framework.flag(option, value))
    asked = CommandLine(command.yaml, (*command.rest, *flags))
    with framework.look(asked, Look(own.n_samples, adapter, str(own.out))) as looked:
        step = resume(looked.trainer.token_selector, Path(looked.adapter)) if looked.adapter else 0
        return look_at(looked.trainer, own.n_samples, looked.adapter, looked.asked_for, step)


def _present(comparison: Comparison, own: argparse.Namespace) -> None:
    from rich.console import Console

    from sstoken_report import comparison_terminal
    from sstoken_report.comparison_page import render

    own.out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    comparison_terminal.show(console, comparison, own.show)
    page = own.out / "sstoken-compare.html"
    files.write_text(page, render(comparison))
    files.write(page.with_suffix(".parquet"), comparison.write_parquet)
    files.write(page.with_suffix(".json"), comparison.write_json)
    console.print(f"\n{page}  and the same as .parquet and .json", soft_wrap=True, markup=False)
