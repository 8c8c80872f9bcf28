"""What was chosen, and the options of whatever was chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import registry
from .errors import Problem, Refused, refuse
from .general import GeneralOptions
from .guard import blame, expect
from .options import Option, build, union, unknown


def all_options() -> dict[str, Option]:
    """Every option of every registered method, history, measurement, signal and extension, by name; general ones
    first. No two mean different things by one name: `registry.registered` sees to it.
    """
    owners: dict[str, type] = {"general": GeneralOptions}
    for kind in ("method", "history", "measurement", "signal"):
        owners |= {f"{kind} {name}": each.Options for name, each in registry.registered(kind).items()}
    owners |= {f"extension {name}": each for name, each in registry.registered("extension").items()}
    return union(owners)


class SSTokenConfig:
    """How the tokens to train on are chosen. The defaults are those of ssToken (arXiv 2510.18250).

        config = SSTokenConfig(rho=0.5)
        config = SSTokenConfig(strategy="trimmed", trim=0.1, history="recorded", history_store="history")
        config.rho                      # what is set, or the default of the owner in use

    Args:
        values: options by name; None is the same as leaving one out. `all_options()` lists them.

    Attributes:
        given: the options that were set.
        owners: names of what is in use, by kind: "method", "history", "signal", "measurement", "extension".

    Raises:
        Refused: a ValueError that names every option with a value that can never work, that nobody declares, or that
            does not belong to what is in use, and how to fix it.
    """

    @blame()
    def __init__(self, **values: Any) -> None:
        self.given = {name: value for name, value in values.items() if value is not None}
        known = all_options()
        refuse(unknown(name, known) for name in self.given if name not in known)
        checked = {name: known[name].check(value) for name, value in self.given.items()}
        refuse(problem for _, problem in checked.values() if problem is not None)
        self.given = {name: value for name, (value, _) in checked.items()}
        self._general: GeneralOptions = build("general", GeneralOptions, self.given)
        self._make_parts()
        self._options = {
            (kind, name): build(f"{kind} {name}", self._options_class(kind, name), self.given)
            for kind, names in self.owners.items()
            for name in names
        }
        self._values = dataclasses.asdict(self._general)
        for each in self._options.values():
            self._values |= dataclasses.asdict(each)
        refuse(self._misplaced(known))

    def _make_parts(self) -> None:
        """Finds what is in use: the method, what it reads, what that needs, and the history."""
        general = self._general
        refuse(_unknown_names(general))
        method = registry.lookup("method", general.strategy)
        self._method_options = build(f"method {general.strategy}", method.Options, self.given)
        made = method(self._method_options)
        _expect_names("method", general.strategy, made, "reads", made.reads)
        signals = tuple(sorted(made.reads))
        known = registry.registered("signal")
        if missing := [name for name in signals if name not in known]:
            raise Refused(*(registry.unknown_name("signal", name, sorted(known)) for name in missing))
        anchored = {"log_probs", "history"} if general.anchor != "none" else set()
        for name in signals:
            _expect_names("signal", name, known[name], "needs", known[name].needs)
        needs = _closure({need for name in signals for need in known[name].needs} | anchored)
        self.owners: dict[str, tuple[str, ...]] = {
            "method": (general.strategy,),
            "history": (general.history,),
            "signal": signals,
            "measurement": needs,
            "extension": tuple(registry.registered("extension")),
        }

    def _misplaced(self, known: Mapping[str, Option]) -> Iterator[Problem]:
        for name in self.given:
            is_off = known[name].type is bool and self.given[name] == known[name].default
            if name not in self._values and not is_off:
                owners = [owner.split(" ", 1) for owner in known[name].owners]
                where = " or ".join(
                    f"`{registry.OPTION_OF.get(kind, kind)}` {owner!r}"
                    if kind in ("method", "history")
                    else f"the {kind} {owner!r}"
                    for kind, owner in owners
                )
                yield Problem(
                    f"{{{name}}} is {{value!r}}, which {{strategy}} {{method!r}} with {{history}} {{chosen!r}} does "
                    f"not read and would ignore: remove it, or choose what it belongs to ({{where}}).",
                    value=self.given[name],
                    method=self._general.strategy,
                    chosen=self._general.history,
                    where=where,
                )

    @staticmethod
    def _options_class(kind: str, name: str) -> type:
        found = registry.registered(kind)[name]
        kind_of_options: type = found if kind == "extension" else found.Options
        return kind_of_options

    def options_of(self, kind: str, name: str) -> Any:
        """The options of one owner in use, as an instance of what it declares."""
        return self._options[kind, name]

    @property
    def reads_history(self) -> bool:
        """Whether anything that is read needs the history."""
        known = registry.registered("measurement")
        return any(known[name].reads_history for name in self.owners["measurement"])

    @property
    def has_data_weights(self) -> bool:
        """Whether the data bring weights."""
        return self._general.has_data_weights

    @property
    def incidental(self) -> frozenset[str]:
        """Names of the options that do not change what is computed: folders, and those of extensions."""
        return frozenset(
            each.name
            for (kind, _), options in self._options.items()
            for each in dataclasses.fields(options)
            if kind == "extension" or each.metadata["folder"]
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._values:
            return self._values[name]
        known = all_options()
        if name in known:
            return known[name].default
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def replace(self, **values: Any) -> SSTokenConfig:
        """The same, with other values; None unsets an option."""
        return SSTokenConfig(**{**self.given, **values})

    def to_dict(self) -> dict[str, Any]:
        """All options in use with their values, as JSON values."""
        return dict(self._values)

    def summary(self, decided: str | None = None) -> str:
        """One line that says what was chosen, for banners and logs.

        Args:
            decided: what the history came down to, where it decides only when it sees the model.
        """
        shown = [f"strategy={self.strategy}", *self._shown("method")]
        shown += [
            f"{name}={getattr(self._general, name)}"
            for name in ("weights", "weights_file", "divisor")
            if getattr(self._general, name) is not None
        ]
        if self.anchor != "none":
            shown.append(f"anchor={self.anchor} ({self.anchor_weight:g}, clip {self.anchor_clip:g})")
        if self.reads_history:
            details = ", ".join([*([decided] if decided else []), *self._shown("history")])
            shown.append(f"history={self.history}" + (f" ({details})" if details else ""))
        return ", ".join([*shown, *self._shown("measurement"), *self._shown("signal")])

    def _shown(self, kind: str) -> list[str]:
        found: dict[str, str] = {}
        for name in self.owners[kind]:
            each = self._options[kind, name]
            for one in dataclasses.fields(each):
                value = getattr(each, one.name)
                if value is not None and (one.metadata["shown"] or value != one.default):
                    found[one.name] = f"{one.name}={value:g}" if isinstance(value, float) else f"{one.name}={value}"
        return list(found.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SSTokenConfig) and self._values == other._values

    def __hash__(self) -> int:
        return hash(tuple(sorted((name, repr(value)) for name, value in self._values.items())))

    def __repr__(self) -> str:
        return f"SSTokenConfig({', '.join(f'{name}={value!r}' for name, value in self.given.items())})"


def _unknown_names(general: GeneralOptions) -> Iterator[Problem]:
    for kind, name in (("method", general.strategy), ("history", general.history)):
        known = registry.registered(kind)
        if name not in known:
            yield registry.unknown_name(kind, name, sorted(known))


def _expect_names(kind: str, name: str, owner: Any, attribute: str, names: Any) -> None:
    is_right = isinstance(names, Iterable) and all(isinstance(each, str) for each in names)
    expect(kind, name, owner, attribute, names, is_right and not isinstance(names, str), "a set of names")


def _closure(needs: set[str]) -> tuple[str, ...]:
    """The measurements that are needed, and those that they need, which come before them."""
    known = registry.registered("measurement")
    ordered: list[str] = []

    def add(name: str) -> None:
        if name not in known:
            raise Refused(registry.unknown_name("measurement", name, sorted(known)))
        _expect_names("measurement", name, known[name], "needs", known[name].needs)
        for need in sorted(known[name].needs):
            add(need)
        if name not in ordered:
            ordered.append(name)

    for name in sorted(needs):
        add(name)
    return tuple(ordered)
