"""Calls what plugins bring: where one of them fails, the error says whose it is, which hook brought it, and where."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

from torch import Tensor

from ..errors import Refused
from ..registry import KINDS, plugin_manager

_OWN = __name__.partition(".")[0]


class PluginError(RuntimeError):
    """A plugin raised an error, or returned what cannot be worked with."""


def origin(of: Any) -> str:
    """The module that a class or a function is from, and the package that brought it."""
    module = getattr(of, "__module__", None) or "an unknown module"
    package = module.partition(".")[0]
    found = metadata.packages_distributions().get(package, [])
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in found)
    return f"module {module}" + (f" (package {versions})" if versions else "")


def guarded(kind: str, name: str, owner: Any, method: str, *arguments: Any) -> Any:
    """`owner.method(*arguments)` of what was registered as `name`.

    Raises:
        PluginError: in place of whatever a plugin raises. Refusals, and errors of what is built in, pass as they are.
    """
    try:
        return getattr(owner, method)(*arguments)
    except (Refused, FloatingPointError, PluginError):
        raise
    except Exception as error:
        if _is_own(type(owner)):
            raise
        raise PluginError(
            f"{_who(kind, name, owner)} failed in `{type(owner).__name__}.{method}`: {type(error).__name__}: {error}. "
            "Report this to its author, or choose without it."
        ) from error


def checked(kind: str, name: str, owner: Any, method: str, values: Any, expected: Tensor) -> Tensor:
    """One number for each token, as every signal and every method has to return.

    Args:
        expected: (B, S), on the device where the values have to be.

    Raises:
        PluginError: for anything else, by name.
    """
    shape = tuple(expected.shape)
    wrong = None
    if not isinstance(values, Tensor):
        wrong = repr(values)[:80]
    elif tuple(values.shape) != shape:
        wrong = f"shape {tuple(values.shape)}"
    elif values.is_complex() or values.is_quantized:
        wrong = f"{values.dtype}"
    elif values.device != expected.device:
        wrong = f"a tensor on {values.device}"
    elif values.requires_grad:
        wrong = "a tensor that requires a gradient (detach it)"
    if wrong is None:
        return values  # type: ignore[no-any-return]
    raise PluginError(
        f"{_who(kind, name, owner)} returned {wrong} from `{type(owner).__name__}.{method}`, where one number for "
        f"each token was expected: shape {shape}, on {expected.device}, without gradient."
    )


def notify(hook: str, **arguments: Any) -> None:
    """Calls a hook of all plugins.

    Raises:
        PluginError: naming the plugin that fails.
    """
    try:
        getattr(plugin_manager().hook, hook)(**arguments)
    except (Refused, FloatingPointError, PluginError):
        raise
    except Exception as error:
        code = set()
        frames = error.__traceback__
        while frames is not None:
            code.add(frames.tb_frame.f_code)
            frames = frames.tb_next
        for each in getattr(plugin_manager().hook, hook).get_hookimpls():
            function = getattr(each.function, "__func__", each.function)
            if getattr(function, "__code__", None) in code and not _is_own(function):
                raise PluginError(
                    f"The plugin {each.plugin_name!r} of {origin(function)} failed in its hook `{hook}`: "
                    f"{type(error).__name__}: {error}. Report this to its author, or uninstall it."
                ) from error
        raise


def _who(kind: str, name: str, owner: Any) -> str:
    return f"The {kind} {name!r} of {origin(type(owner))}, registered by `{KINDS[kind]}`,"


def _is_own(of: Any) -> bool:
    module = sys.modules.get(getattr(of, "__module__", ""), None)
    return module is not None and module.__name__.partition(".")[0] == _OWN
