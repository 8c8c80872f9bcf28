"""Finds what is registered, built-ins and installed plugins alike."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pluggy

from . import hookspecs
from .config import unknown_name

if TYPE_CHECKING:
    from .histories import History
    from .signals import Signal
    from .strategies import Strategy


@functools.cache
def plugin_manager() -> pluggy.PluginManager:
    """The one plugin manager of this process; installed plugins are loaded on first use."""
    from . import grounded, histories, reports, signals, strategies, telemetry, trimmed

    manager = pluggy.PluginManager("sstoken")
    manager.add_hookspecs(hookspecs)
    for builtin in (signals, histories, strategies, trimmed, grounded, telemetry, reports):
        manager.register(builtin)
    manager.load_setuptools_entrypoints("sstoken")
    manager.check_pending()
    return manager


def signals() -> dict[str, type[Signal]]:
    """The registered signals by name."""
    return _registered("register_signals", "signal")


def histories() -> dict[str, type[History]]:
    """The registered histories by name."""
    return _registered("register_histories", "history")


def strategies() -> dict[str, type[Strategy]]:
    """The registered strategies by name."""
    return _registered("register_strategies", "strategy")


def lookup(kind: str, name: str, known: dict[str, Any]) -> Any:
    """What is registered as `name`.

    Raises:
        ValueError: naming the option `kind`, the unknown name and the known ones.
    """
    if name not in known:
        raise unknown_name(kind, name, known)
    return known[name]


def _registered(hook: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def register(name: str, implementation: Any) -> None:
        if found.get(name, implementation) is not implementation:
            raise ValueError(
                f"Two plugins register the {kind} {name!r}: {found[name].__module__} and {implementation.__module__}. "
                "Uninstall one of them, or ask its author for another name."
            )
        found[name] = implementation

    getattr(plugin_manager().hook, hook)(register=register)
    return found
