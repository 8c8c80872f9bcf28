"""Finds what is registered, built-ins and installed plugins alike."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import pkgutil
from importlib import metadata
from typing import Any

import pluggy

from . import hookspecs
from .errors import Problem, Refused

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


def broken_plugins() -> dict[str, str]:
    """Installed plugins that were left out, and why."""
    plugin_manager()
    return dict(_broken)


def installed_packages() -> list[str]:
    """Name and version of the packages that installed plugins, this project's own aside."""
    found = {f"{entry.dist.name} {entry.dist.version}" for entry in metadata.entry_points(group=PROJECT) if entry.dist}
    return sorted(each for each in found if not each.startswith("sstoken-plugins "))


def registered(kind: str) -> dict[str, Any]:
    """The classes registered as one of `KINDS`, by name.

    Raises:
        Refused: if two plugins register the same name.
    """
    manager = plugin_manager()
    found: dict[str, Any] = {}
    for hook in getattr(manager.hook, KINDS[kind]).get_hookimpls():
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
        for name, implementation in mine.items():
            if found.get(name, implementation) is not implementation:
                raise Refused(
                    f"Two plugins register the {kind} {name!r}: {found[name].__module__} and "
                    f"{implementation.__module__}. Uninstall one of them, or ask its author for another name."
                )
            found[name] = implementation
    return found


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
    TypeError: unless it is a class of this kind that can be instantiated.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of a {kind} is {name!r}, but it has to be text.")
    if not isinstance(implementation, type):
        raise TypeError(f"{kind} {name!r} is {implementation!r}, but it has to be a class (not an instance).")
    if kind != "extension" and getattr(implementation, "kind", None) != kind:
        raise TypeError(f"{kind} {name!r} is {implementation.__qualname__}, which is not derived from the base class.")
    if inspect.isabstract(implementation):
        missing = ", ".join(sorted(getattr(implementation, "__abstractmethods__", ())))
        raise TypeError(f"{kind} {name!r} is {implementation.__qualname__}, which lacks {missing}.")
