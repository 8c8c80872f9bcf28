"""Which framework is a command line for?"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sstoken_plugins import registry
from sstoken_plugins.errors import refused
from sstoken_plugins.installing import how_to_install

from .framework import CommandLine, Framework


def frameworks() -> dict[str, Framework]:
    """The registered frameworks by name."""
    return {name: framework() for name, framework in registry.registered("framework").items()}


def pick(command: CommandLine, name: str | None = None) -> Framework:
    """The framework whose keys are in the YAML; without a YAML, the one that takes flags alone.

    Args:
        name: the framework that the user named.

    Raises:
        Refused: if none or several could be meant, or the framework is not installed.
    """
    known = frameworks()
    if name is not None:
        if name not in known:
            raise refused("`--framework` is {name!r}. Known: {known}.", name=name, known=", ".join(sorted(known)))
        return _installed(known[name])
    if command.yaml is None:
        return _installed(next(each for each in known.values() if each.takes_flags))
    settings = read(command.yaml)
    votes = {name: framework.recognises(settings) for name, framework in known.items()}
    best = [name for name, count in votes.items() if count and count == max(votes.values())]
    if len(best) != 1:
        raise refused(
            "{yaml} could be a configuration for {candidates}: say which with `--framework NAME`.",
            yaml=command.yaml,
            candidates=" or ".join(sorted(best or known)),
        )
    return _installed(known[best[0]])


def read(path: Path) -> Mapping[str, Any]:
    """The settings of a YAML.

    Raises:
        Refused: if it is not one.
    """
    import yaml

    if not path.is_file():
        raise refused("{yaml} is not a file.", yaml=path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise refused("{yaml} cannot be read: {error}", yaml=path, error=" ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise refused("{yaml} holds no settings (`key: value`).", yaml=path)
    return content


def _installed(framework: Framework) -> Framework:
    if importlib.util.find_spec(framework.package) is None:
        raise refused(
            "This is for {label}, which is not installed here: {how}",
            label=framework.label,
            how=how_to_install(framework.extra),
        )
    return framework
