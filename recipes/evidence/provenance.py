"""Where a cell comes from: cells are compared only if code, base model, versions and kind of device are the same."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VERSIONS = ("torch", "transformers", "trl", "peft")


def code(files: Iterable[Path]) -> str:
    """A hash of the source that trains and measures, committed or not: these files, and this package."""
    import sstoken_plugins
    import sstoken_transformers
    import sstoken_trl

    files = list(files)
    for package in (sstoken_plugins, sstoken_transformers, sstoken_trl):
        files += sorted(Path(package.__file__).parent.rglob("*.py"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def revision() -> str | None:
    """Of git, with "-dirty" where files differ from it; outside of a checkout $TESTBED_REVISION, or None."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return os.environ.get("TESTBED_REVISION")


def of_this(files: Iterable[Path], base: str, device: str) -> dict[str, Any]:
    """What is written into a cell that runs here and now.

    Args:
        files: of the recipe, those that decide how a cell comes out.
        base: fingerprint of the base model.
        device: "cpu" or "cuda".
    """
    return {
        "code": code(files),
        "revision": revision(),
        "base": base,
        "device": device,
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }


TO_CHOOSE = ("base",)
TO_COMPARE = ("code", *TO_CHOOSE, "device", "versions")


def require_same(results: Iterable[Mapping[str, Any]], first: tuple[str, Mapping[str, Any]] | None = None) -> None:
    """Raises:
    ValueError: unless all cells have the same base model, and those that report the same code, versions and device.

    Args:
        results: contents of cells; those of the tuning give no more than settings, so they may come from another
            machine or an older revision.
        first: a name and a provenance that all have to agree with, those that report in everything.
    """
    for result in sorted(results, key=lambda result: result["cell"]["split"]):  # those that report come first
        cell, provenance = result["cell"], result["provenance"]
        name = f"{cell['arm']} of seed {cell['seed']}, {cell.get('flaw') or cell['condition']}"
        first = first or (name, provenance)
        for key in TO_COMPARE if cell["split"] == "test" else TO_CHOOSE:
            if provenance[key] != first[1][key]:
                raise ValueError(
                    f"`{key}` is {first[1][key]!r} in {first[0]} and {provenance[key]!r} in {name}: their differences "
                    "would say nothing. Keep cells of one revision in a folder of their own (--output), or delete the "
                    "older ones."
                )
