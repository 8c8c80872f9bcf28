"""Finds what is registered, built-ins and installed plugins alike."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pluggy

from . import hookspecs
from .errors import Problem, Refused
from .general import GeneralOptions
from .options import NoOptions, declared

logger = logging.getLogger(__name__)

PROJECT = "sstoken"
KINDS = {
    "method": "register_methods",
    "signal": "register_signals",
    "measurement": "register_measurements",
    "history": "register_histories",
    "extension": "register_extensions",
    "framework": "register_frameworks",
}
OPTION_OF = {"method": "strategy"}
"""The option by which users choose one, where it is not called like the kind."""
# Every module of these packages is looked at: a built-in is one file, and nothing else changes.
_BUILTIN = ("methods", "signals", "measure", "histories", "run")

_broken: dict[str, str] = {}
_not_loaded: set[str] = set()
"""Those of the broken ones that are not registered, since they could not be imported."""


@functools.cache
def plugin_manager() -> pluggy.PluginManager:
    """The one plugin manager of this process; installed plugins are loaded on first use.

    A plugin that cannot be imported is reported by name, and only its own names are missing.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    package = __package__ or PROJECT
    for folder in _BUILTIN:
        parent = importlib.import_module(f"{package}.{folder}")
        for module in pkgutil.iter_modules(parent.__path__, f"{parent.__name__}."):
            if not module.name.rpartition(".")[2].startswith("_"):
                manager.register(importlib.import_module(module.name))
    for entry in metadata.entry_points(group=PROJECT):
        if manager.is_blocked(entry.name) or manager.has_plugin(entry.name):
            continue
        try:
            plugin = entry.load()
            manager.register(plugin, entry.name)
            manager.check_pending()  # a hook that does not exist
        except Exception as error:
            if manager.has_plugin(entry.name):
                manager.unregister(name=entry.name)
            _not_loaded.add(entry.name)
            report_broken(entry.name, f"{type(error).__name__}: {error}")
            continue
        if not manager.get_hookcallers(plugin):
            report_broken(entry.name, f"{plugin.__name__} implements no hook (is `@hookimpl` missing?).")
    return manager


def report_broken(plugin: str, reason: str) -> None:
    """Says once that a plugin, or a part of it, is left out."""
    if plugin not in _broken:
        logger.warning("The plugin %r is left out: %s", plugin, reason)
    _broken[plugin] = reason


def _forget_broken() -> None:
    """Those that are no longer registered: another may get the name, which is an address where none is given."""
    here = {name for name, _ in plugin_manager().list_name_plugin()}
    for name in _broken.keys() - here - _not_loaded:
        del _broken[name]


def broken_plugins() -> dict[str, str]:
    """Installed plugins that were left out, and why."""
    _forget_broken()
    return dict(_broken)


def installed_packages() -> list[str]:
    """Name and version of the packages that installed plugins, this project's own aside."""
    found = {f"{entry.dist.name} {entry.dist.version}" for entry in metadata.entry_points(group=PROJECT) if entry.dist}
    return sorted(each for each in found if not each.startswith("sstoken-plugins "))


@dataclass(frozen=True)
class _Claim:
    """What a plugin registers as `name`."""

    plugin: str
    kind: str
    name: str
    of: Any

    @property
    def owner(self) -> str:
        return f"{self.kind} {self.name!r}"

    @property
    def options(self) -> type:
        options: type = self.of if self.kind == "extension" else getattr(self.of, "Options", NoOptions)
        return options

    @property
    def is_own(self) -> bool:
        """Whether it is this project's."""
        package: str = (getattr(self.of, "__module__", None) or "").partition(".")[0]
        return package == __package__ or package.startswith(f"{PROJECT}_")


def registered(kind: str) -> dict[str, Any]:
    """The classes registered as one of `KINDS`, by name.

    Of two that claim one name, or give one option two meanings, this project's own stays; of two plugins, neither:
    nobody gets another one than meant. What is left out is reported.
    """
    global _resolved
    plugins = plugin_manager().list_name_plugin()
    if [(name, id(plugin)) for name, plugin in _resolved[0]] != [(name, id(plugin)) for name, plugin in plugins]:
        _resolved = plugins, _resolve()
    return dict(_resolved[1][kind])


_resolved: tuple[list[tuple[str, Any]], dict[str, dict[str, Any]]] = [], {}
"""The plugins at the last look, and what they registered: every look at an option asks."""


def _resolve() -> dict[str, dict[str, Any]]:
    _forget_broken()
    claims = [claim for kind in KINDS for claim in _claims(kind)]
    claims = _uncontested(claims, lambda claim: [(claim.owner, "the name", claim.of)])
    general = _Claim(PROJECT, "extension", "general", GeneralOptions)
    claims = _uncontested([general, *claims], _options_of)[1:]
    found: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for claim in claims:
        found[claim.kind][claim.name] = claim.of
    return found


def _claims(kind: str) -> Iterator[_Claim]:
    """What every plugin registers whose hook works."""
    for hook in getattr(plugin_manager().hook, KINDS[kind]).get_hookimpls():
        mine: dict[str, Any] = {}
        try:
            hook.function(register=mine.__setitem__)
            for name, implementation in mine.items():
                _check(kind, name, implementation)
        except Exception as error:
            if hook.plugin_name.startswith(f"{__package__}."):
                raise
            report_broken(hook.plugin_name, f"its hook {KINDS[kind]} failed: {error}")
            continue
        yield from (_Claim(hook.plugin_name, kind, name, of) for name, of in mine.items())


def _uncontested(claims: list[_Claim], takes: Callable[[_Claim], Iterable[tuple[str, str, Any]]]) -> list[_Claim]:
    """Those that take nothing which another takes to mean something else; see `registered`.

    Args:
        takes: what only one may take, how that is called, and what the claim means by it.
    """
    holders: dict[tuple[str, str], list[tuple[_Claim, Any]]] = {}
    for claim in sorted(claims, key=lambda claim: not claim.is_own):
        for taken, what, meaning in takes(claim):
            holders.setdefault((taken, what), []).append((claim, meaning))
    out: set[_Claim] = set()
    for (_, what), holding in holders.items():
        first, meaning = holding[0]
        rivals = [claim for claim, other in holding[1:] if other != meaning]
        losers = rivals if first.is_own or not rivals else [claim for claim, _ in holding]
        for claim in losers:
            rival = first if claim is not first else rivals[0]
            if claim.is_own:
                raise RuntimeError(f"{claim.owner} and {rival.owner} both take {what}.")
            remedy = "." if rival.is_own else ", or uninstall one of the two."
            report_broken(
                claim.plugin,
                f"{what} of its {claim.owner} (module {claim.of.__module__}) is taken by the {rival.owner} (module "
                f"{rival.of.__module__}). Ask its author for another name{remedy}",
            )
        out.update(losers)
    return [claim for claim in claims if claim not in out]


def _options_of(claim: _Claim) -> Iterator[tuple[str, str, Any]]:
    for each in declared(claim.owner, claim.options):
        yield each.name, f"the option {each.name!r}", (each.type, each.help, each.choices)


def lookup(kind: str, name: str) -> Any:
    """What is registered as `name`.

    Raises:
        Refused: naming the option, the unknown name and the known ones.
    """
    known = registered(kind)
    if name not in known:
        raise Refused(unknown_name(kind, name, sorted(known)))
    return known[name]


def unknown_name(kind: str, name: Any, known: list[str]) -> Problem:
    """The problem with a name that nobody registered."""
    option = OPTION_OF.get(kind, kind)
    left_out = "".join(f" The plugin {plugin!r} was left out: {reason}" for plugin, reason in _broken.items())
    return Problem(
        f"{{{option}}} is {{name!r}}, which is not registered. Known: {{known}}. A plugin adds its own when its "
        "package is installed in this environment.{left_out}",
        name=name,
        known=", ".join(known),
        left_out=left_out,
    )


def _check(kind: str, name: Any, implementation: Any) -> None:
    """Raises:
    TypeError: unless it is a class of this kind that can be instantiated, and declares its options as such.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of a {kind} is {name!r}, but it has to be text.")
    if not isinstance(implementation, type):
        raise TypeError(f"{kind} {name!r} is {implementation!r}, but it has to be a class (not an instance).")
    if kind != "extension" and getattr(implementation, "kind", None) != kind:
        raise TypeError(f"{kind} {name!r} is {implementation.__qualname__}, which is not derived from the base class.")
    options = implementation if kind == "extension" else getattr(implementation, "Options", NoOptions)
    list(declared(f"{kind} {name}", options))
    if inspect.isabstract(implementation):
        missing = ", ".join(sorted(getattr(implementation, "__abstractmethods__", ())))
        raise TypeError(f"{kind} {name!r} is {implementation.__qualname__}, which lacks {missing}.")
