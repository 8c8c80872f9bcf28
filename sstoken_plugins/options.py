"""Options belong to what they configure: declared once, with default, help and check.

    @dataclass(frozen=True)
    class Options(NoOptions):
        rho: float = option(0.6, "Fraction of ...", valid=lambda rho: 0 < rho <= 1, otherwise=": set it in (0, 1].")

An owner (a method, a history, a measurement, a signal, an extension) names such a class as its `Options` and gets an
instance. The union of all becomes TRL's flags, Axolotl's block, the doctor's checks and the tables of the
documentation. Two owners may declare the same option, with defaults of their own; the type and the help have to agree.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import Problem, Refused, refuse


@dataclass(frozen=True)
class NoOptions:
    """What an owner without options declares, and the base of all others' `Options`."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the options taken together; each alone has been checked."""
        yield from ()


def option(
    default: Any,
    help: str,
    *,
    valid: Callable[[Any], bool] | None = None,
    otherwise: str = "",
    choices: tuple[str, ...] = (),
    shown: bool = False,
    folder: bool = False,
) -> Any:
    """A field of an `Options` dataclass.

    Args:
        default: None for an option that is unset unless the user sets it.
        help: whole sentences, for every command line, YAML and documentation.
        valid: whether a value of the right type can work.
        otherwise: ends the sentence "`name` is VALUE" for those that cannot; says what to set.
        choices: all that a text may be.
        shown: whether summaries show it even where it is not set.
        folder: whether it says where something is: what is there counts, and not its name.
    """
    metadata = {
        "help": help,
        "valid": valid,
        "otherwise": otherwise,
        "choices": choices,
        "shown": shown,
        "folder": folder,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """An option as users see it.

    Attributes:
        type: bool, int, float or str; a value may also be None, which is unset.
        owners: whom it configures, such as ("method sstoken", ...), with the default of each.
    """

    name: str
    type: type
    help: str
    choices: tuple[str, ...]
    owners: Mapping[str, Any]
    _valid: Callable[[Any], bool] | None
    _otherwise: str

    @property
    def default(self) -> Any:
        """Of the first owner."""
        return next(iter(self.owners.values()))

    @property
    def described(self) -> str:
        """The help, with the default or defaults."""
        defaults: dict[str, list[str]] = {}
        for owner, default in self.owners.items():
            defaults.setdefault(repr(default), []).append(owner.rpartition(" ")[2])
        if len(defaults) > 1:
            told = "; ".join(f"{default} for {', '.join(owners)}" for default, owners in defaults.items())
            return f"{self.help} Default: {told}."
        return self.help if self.default is None else f"{self.help} Default: {self.default}."

    def check(self, value: Any) -> tuple[Any, Problem | None]:
        """The value in its type, or what is wrong with it."""
        if self.type is str and isinstance(value, os.PathLike):
            value = os.fspath(value)
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):  # then it is no number that can be computed with
                value = float(value)
        if not isinstance(value, self.type) or (self.type is not bool and isinstance(value, bool)):
            kind = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}[self.type]
            return value, Problem(f"{{{self.name}}} is {{value}}, but it has to be {kind}.", value=_shown(value))
        if self.choices and value not in self.choices:
            either = " or ".join([", ".join(map(repr, self.choices[:-1])), repr(self.choices[-1])])
            return value, Problem(f"{{{self.name}}} is {{value!r}}: set it to {either}.", value=value)
        if self._valid is not None and not self._valid(value):
            return value, Problem(f"{{{self.name}}} is {{value!r}}{self._otherwise}", value=value)
        return value, None


def declared(owner: str, options: type) -> Iterator[Option]:
    """The options that a dataclass declares.

    Raises:
        TypeError: if it is no such dataclass.
    """
    if not (isinstance(options, type) and issubclass(options, NoOptions) and dataclasses.is_dataclass(options)):
        raise TypeError(
            f"{owner}: its options are {options!r}, but they have to be a dataclass derived from NoOptions."
        )
    types_of = typing.get_type_hints(options)
    for each in dataclasses.fields(options):
        metadata = each.metadata
        if "help" not in metadata:
            raise TypeError(f"{owner}: its option {each.name!r} is not declared with sstoken_plugins.option(...).")
        yield Option(
            name=each.name,
            type=_plain(types_of[each.name], f"{owner}, option {each.name!r}"),
            help=metadata["help"],
            choices=metadata["choices"],
            owners={owner: each.default},
            _valid=metadata["valid"],
            _otherwise=metadata["otherwise"],
        )


def union(owners: Mapping[str, type]) -> dict[str, Option]:
    """All options by name.

    Raises:
        Refused: if two owners declare different options under one name.
    """
    found: dict[str, Option] = {}
    for owner, options in owners.items():
        for each in declared(owner, options):
            known = found.get(each.name)
            if known is None:
                found[each.name] = each
                continue
            if (known.type, known.help, known.choices) != (each.type, each.help, each.choices):
                raise Refused(
                    f"Two plugins declare the option {each.name!r} differently: {next(iter(known.owners))} and "
                    f"{owner}. Uninstall one of them, or ask its author for another name."
                )
            found[each.name] = dataclasses.replace(known, owners={**known.owners, **each.owners})
    return found


def build(owner: str, options: type, values: Mapping[str, Any]) -> Any:
    """An owner's options: what is set of them, and defaults for the rest.

    Raises:
        Refused: for values that can never work.
    """
    known = {each.name: each for each in declared(owner, options)}
    checked = {name: known[name].check(value) for name, value in values.items() if name in known}
    refuse(problem for _, problem in checked.values() if problem is not None)
    built = options(**{name: value for name, (value, _) in checked.items()})
    refuse(built.problems())
    return built


def unknown(name: str, known: Iterable[str]) -> Problem:
    """An option that does not exist."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f": did you mean `{close[0]}`?" if close else "."
    return Problem(
        "`{name}` is not an option{hint} The options are {all}.", name=str(name)[:80], hint=hint, all=", ".join(names)
    )


def _plain(annotation: Any, where: str) -> type:
    """float of `float | None`, and so on."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [each for each in typing.get_args(annotation) if each is not types.NoneType]
        annotation = rest[0] if len(rest) == 1 else annotation
    if annotation not in (bool, int, float, str):
        raise TypeError(f"{where} has type {annotation}: use bool, int, float or str, or one of them with None.")
    kind: type = annotation
    return kind


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
