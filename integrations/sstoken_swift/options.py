"""Options of the selection from the environment."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from typing import Any, get_args

import yaml

from sstoken_plugins import SSTokenConfig, all_options
from sstoken_plugins.errors import Problem, refuse

from .names import PREFIX, own_name


def token_selection() -> SSTokenConfig:
    """What `SSTOKEN_RHO=0.5` and the like ask for.

    Raises:
        Refused: for names that are no options, and values that can never work.
    """
    options = all_options()
    names = {own_name(name): name for name in options}
    given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    refuse(_unknown(given, names))
    return SSTokenConfig(**{names[name]: _value(text, options[names[name]].type) for name, text in given.items()})


def _unknown(given: dict[str, str], names: dict[str, str]) -> Iterator[Problem]:
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            yield Problem(
                "The environment variable {name} is not an option of the selection{hint}",
                name=name,
                hint=f": did you mean {close[0]}?" if close else f". Its options are {', '.join(sorted(names))}.",
            )


def _value(text: str, kind: Any) -> Any:
    """As YAML reads it, but text where the option is text: a folder may be called 2024."""
    if kind is str or str in get_args(kind):
        return text
    return yaml.safe_load(text)
