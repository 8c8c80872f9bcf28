"""Where a plugin fails, the error says whose it is, which hook brought it, and which of its methods failed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from importlib import metadata
from types import CodeType
from typing import Any

from torch import Tensor

from .errors import Refused
from .registry import KINDS, plugin_manager, registered

_OWN = __name__.partition(".")[0]
_KINDS = ("method", "signal", "measurement", "history")
_NOTIFIED = ("observe", "watch")


class PluginError(RuntimeError):
    """A plugin raised an error, or returned what cannot be worked with."""


@contextlib.contextmanager
def blame() -> Iterator[None]:
    """An error that a plugin raises inside is one that names it. Also a decorator: `@blame()`.

    Raises:
        PluginError: in place of what a plugin raised. Refusals, and errors that no plugin raised, pass as they are.
    """
    try:
        yield
    except (Refused, FloatingPointError, PluginError):
        raise
    except Exception as error:
        if (who := _culprit(error)) is None:
            raise
        raise PluginError(
            f"{who}: {type(error).__name__}: {error}. Report this to its author, or train without it."
        ) from error


def origin(of: Any) -> str:
    """The module that a class or a function is from, and the package that brought it."""
    module = getattr(of, "__module__", None) or "an unknown module"
    found = _packages().get(module.partition(".")[0], [])
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in dict.fromkeys(found))
    return f"module {module}" + (f" (package {versions})" if versions else "")


@functools.cache
def _packages() -> Mapping[str, list[str]]:
    """Of each importable module, the installed packages that bring it. Reads all packages: a second or so."""
    return metadata.packages_distributions()


def checked(
    kind: str, name: str, owner: Any, method: str, values: Any, expected: Tensor, each: str = "token"
) -> Tensor:
    """One number for each element of `expected`, as signals and methods have to return.

    Args:
        each: what an element stands for.
        expected: of the shape, and on the device, where the values have to be.

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
        found: Tensor = values
        return found
    raise PluginError(
        f"{_who(kind, name, type(owner))} returned {wrong} from `{type(owner).__name__}.{method}`, where one number "
        f"for each {each} was expected: shape {shape}, on {expected.device}, without gradient."
    )


def expect(kind: str, name: str, owner: Any, method: str, value: Any, is_right: bool, what: str) -> None:
    """Raises:
    PluginError: unless `value`, which the owner's method returned, `is_right`: `what` was expected.
    """
    if not is_right:
        owner = owner if isinstance(owner, type) else type(owner)
        raise PluginError(
            f"{_who(kind, name, owner)} returned {value!r:.80} from `{owner.__name__}.{method}`, where "
            f"{what} was expected. Report this to its author, or train without it."
        )


def expect_tensors(kind: str, name: str, owner: Any, state: Any) -> None:
    """Raises:
    PluginError: unless `state`, which the owner's `state_dict` returned, is tensors by name.
    """
    is_right = isinstance(state, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    )
    expect(kind, name, owner, "state_dict", state, is_right, "a mapping from names to tensors")


def _culprit(error: BaseException) -> str | None:
    """What of the plugins raised an error, and in which of its methods: the innermost; None if it was none of them."""
    frames, codes = error.__traceback__, []
    while frames is not None:
        codes.append(frames.tb_frame.f_code)
        frames = frames.tb_next
    known = dict(_methods_of_plugins())
    return next((known[code] for code in reversed(codes) if code in known), None)


def _methods_of_plugins() -> Iterator[tuple[CodeType, str]]:
    for kind in _KINDS:
        with contextlib.suppress(Refused):  # of two plugins with one name
            for name, implementation in registered(kind).items():
                for owner in implementation.__mro__:
                    if not _is_own(owner):
                        for method, each in vars(owner).items():
                            function = getattr(each, "fget", None) or getattr(each, "__func__", each)
                            if isinstance(code := getattr(function, "__code__", None), CodeType):
                                yield code, f"{_who(kind, name, owner)} failed in `{owner.__name__}.{method}`"
    for hook in _NOTIFIED:
        for each in getattr(plugin_manager().hook, hook).get_hookimpls():
            function = getattr(each.function, "__func__", each.function)
            if not _is_own(function) and isinstance(code := getattr(function, "__code__", None), CodeType):
                yield code, f"The plugin {each.plugin_name!r} of {origin(function)} failed in its hook `{hook}`"


def _who(kind: str, name: str, owner: type) -> str:
    return f"The {kind} {name!r} of {origin(owner)}, registered by `{KINDS[kind]}`,"


def _is_own(of: Any) -> bool:
    return (getattr(of, "__module__", None) or "").partition(".")[0] in (_OWN, "builtins", "abc")
