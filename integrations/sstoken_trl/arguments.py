"""The user's own data, and flags as people write them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, TrlParser

from sstoken_plugins.errors import Problem, Refused

from .compat import knows_flag, launcher_flags
from .config import SSTokenSFTConfig, own_names

SHORT = {"--model": "--model_name_or_path", "--split": "--dataset_train_split"}
"""Flags under the names of `sstoken inspect` and `sstoken audit`, where TRL has no such flag itself."""


@dataclass
class SSTokenScriptArguments(ScriptArguments):
    """TRL's, and where the user's own rows are."""

    data: str | None = field(
        default=None,
        metadata={
            "help": "Your data: a .jsonl, .json, .parquet or .csv file, a folder of such files, or the name of a data "
            "set on the hub. Takes the place of `dataset_name` and `datasets`."
        },
    )
    columns: str | None = field(
        default=None,
        metadata={
            "help": "Your columns by the names that training reads, such as question=prompt,answer=completion or "
            "chat=messages."
        },
    )


class WrongCommandLine(Refused):
    """An unknown flag or key, or one without a value."""


class Parser(TrlParser):
    """TRL's parser for `sstoken sft`; what is wrong is said in one sentence instead of below all of its flags."""

    def error(self, message: str) -> NoReturn:
        raise WrongCommandLine(f"{message.rstrip('.')}. `sstoken sft --help-all` lists all flags.")


def make_parser(prog: str | None = None) -> TrlParser:
    return Parser((SSTokenScriptArguments, SSTokenSFTConfig, ModelConfig, DatasetMixtureConfig), prog=prog)


def parse(argv: Sequence[str], prog: str, switches: Sequence[str] = ()) -> tuple[Any, ...]:
    """The four groups of arguments.

    Args:
        switches: flags that win over all others.

    Raises:
        Refused: for anything that is wrong with them.
    """
    parser = make_parser(prog)
    *parsed, from_config, rest = _read(parser, [*long_flags(argv, parser), *switches])
    refuse_unknown(parser, from_config, rest)
    return tuple(parsed)


def parse_for_launcher(argv: Sequence[str], prog: str) -> tuple[list[str], list[str]]:
    """Checks the arguments; returns those for the program, and those for the launcher, which may be in the YAML too.

    Raises:
        Refused: for anything that is wrong with them.
    """
    parser = make_parser(prog)
    arguments = long_flags(argv, parser)
    *_, from_config, rest = _read(parser, arguments)
    refuse_unknown(parser, from_config, rest, launcher_flags())
    left = list(rest)
    ours = [each for each in arguments if not (left and each == left[0] and left.pop(0))]
    return ours, [*from_config, *rest]


def long_flags(argv: Sequence[str], parser: TrlParser, short: dict[str, str] | None = None) -> list[str]:
    """The flags as TRL knows them. A YAML that comes first needs no `--config`."""
    names = {**SHORT, **(short or {})}
    arguments = ["--config", *argv] if argv and not argv[0].startswith("-") else list(argv)
    found = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag == "--config" and equals:  # which TRL reads with a space only
            found += [flag, value]
        else:
            found.append((names.get(flag, flag) if not knows_flag(parser, flag) else flag) + equals + value)
    return found


def _read(parser: TrlParser, arguments: list[str]) -> tuple[Any, ...]:
    try:
        with own_names():
            read: tuple[Any, ...] = parser.parse_args_and_config(
                arguments, return_remaining_strings=True, separate_remaining_strings=True
            )
            return read
    except (ValueError, TypeError, OSError, yaml.YAMLError, IndexError) as error:
        if isinstance(error, IndexError):  # nothing behind `--config`
            raise WrongCommandLine("`--config` names no file.") from error
        said = error.texts if isinstance(error, Refused) else (" ".join(str(error).split()),)
        if misspelt := list(_misspelt(parser, arguments)):
            raise WrongCommandLine(*misspelt, *said) from error
        if isinstance(error, Refused):
            raise
        raise Refused(*said) from error


def _misspelt(parser: TrlParser, arguments: Sequence[str]) -> Iterator[Problem]:
    """Unknown flags where the parser did not come to look for them, since a value is wrong."""
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    known = launcher_flags() | {"--config"}
    for flag in flags:
        if flag not in known and not knows_flag(parser, flag):
            yield _said(flag, "a flag of `sstoken sft`", [*_our_flags(parser), *SHORT, *known])


def refuse_unknown(parser: TrlParser, *left: Any) -> None:
    """Raises:
    WrongCommandLine: for unknown flags and keys among what the parser left.
    """
    if problems := list(_unknown(parser, *left)):
        raise WrongCommandLine(*problems)


def _unknown(
    parser: TrlParser, from_config: Sequence[str], rest: Sequence[str], launchers: frozenset[str] = frozenset()
) -> Iterator[Problem]:
    """Unknown keys and flags among what the parser left of the YAML (as flags, each with its value) and of the flags.

    Args:
        launchers: flags that a launcher takes.
    """
    ours = _our_flags(parser)
    for key in from_config[::2]:
        if key not in launcher_flags():  # who launches us reads the same YAML
            yield _said(key.removeprefix("--"), "a key of `sstoken sft`", [flag[2:] for flag in ours])
    before = ""
    for argument in rest:
        flag = argument.partition("=")[0]
        if argument.startswith("--"):
            if flag not in launchers:
                yield _said(flag, "a flag of `sstoken sft`", [*ours, *SHORT, *launchers])
        elif not before.startswith("-"):
            yield Problem("{value!r} follows no flag.", value=argument)
        before = argument


def _our_flags(parser: TrlParser) -> list[str]:
    return [flag for flag in parser._option_string_actions if flag.startswith("--") and "-" not in flag[2:]]


def _said(name: str, what: str, known: Iterable[str]) -> Problem:
    close = difflib.get_close_matches(name, list(known), n=1)
    return Problem(
        "`{name}` is not {what}{hint}",
        name=name,
        what=what,
        hint=f": did you mean `{close[0]}`?" if close else ". `sstoken sft --help-all` lists all.",
    )
