"""Which checks there are."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import pluggy

from . import hookspecs
from .checks.base import Check
from .errors import AuditError


@functools.cache
def plugin_manager() -> pluggy.PluginManager:
    from . import checks

    manager = pluggy.PluginManager("sstoken")
    manager.add_hookspecs(hookspecs)
    for builtin in checks.builtin():
        manager.register(builtin)
    manager.load_setuptools_entrypoints("sstoken_audit")
    return manager


def checks() -> dict[str, type[Check]]:
    """The registered checks by name.

    Raises:
        AuditError: if two have the same name.
    """
    found: dict[str, type[Check]] = {}

    def register(check: type[Check]) -> None:
        if found.get(check.name, check) is not check:
            raise AuditError(
                f"Two plugins register the check {check.name!r}: {found[check.name].__module__} and "
                f"{check.__module__}. Uninstall one of them."
            )
        found[check.name] = check

    # pluggy calls what was registered last first.
    for plugin in plugin_manager().get_plugins():
        if hasattr(plugin, "register_checks"):
            plugin.register_checks(register)
    return dict(sorted(found.items(), key=lambda item: item[1].order))


def chosen(
    names: Iterable[str] | None, skip: Iterable[str], thresholds: Mapping[str, float], with_model: bool
) -> list[Check]:
    """Instances of the named checks (all by default), less `skip`; those that need a model only where there is one.

    Raises:
        AuditError: for a name that is not registered, or a named check that needs a model where there is none.
    """
    known = checks()
    for option, given in (("--checks", names or ()), ("--skip", skip), ("--threshold", thresholds)):
        if unknown := [name for name in given if name not in known]:
            raise AuditError(f"{option} names {', '.join(unknown)}: the checks are {', '.join(known)}.")
    wanted = [name for name in (known if names is None else names) if name not in set(skip)]
    if names is not None and not with_model and (asked := [name for name in wanted if known[name].needs_model]):
        raise AuditError(f"The checks {', '.join(asked)} need a model: set --model.")
    made = [known[name](thresholds.get(name)) for name in wanted if with_model or not known[name].needs_model]
    if not made:
        raise AuditError("No check is left: name fewer in --skip.")
    return made
