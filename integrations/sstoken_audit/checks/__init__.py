"""The built-in checks, one idea a file."""

from __future__ import annotations

from types import ModuleType


def builtin() -> tuple[ModuleType, ...]:
    from . import (
        boilerplate,
        copied,
        duplicates,
        encoding,
        gibberish,
        language,
        mismatch,
        outlier,
        refusal,
        role_marks,
        size,
        truncated,
    )

    return (
        mismatch,
        gibberish,
        encoding,
        boilerplate,
        refusal,
        duplicates,
        truncated,
        language,
        size,
        copied,
        role_marks,
        outlier,
    )
