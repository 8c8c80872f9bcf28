"""A plugin's package, installed by pip into a folder of its own: the environment of the tests stays as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def install(package: Path, scratch: Path) -> str:
    """Returns the folder, for `PYTHONPATH`."""
    source, target = scratch / "source", scratch / "site"
    shutil.copytree(package, source)  # building leaves files behind
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--target", str(target), str(source)],
        check=True, timeout=300,
    )  # fmt: skip
    return str(target)


def search_path(site: str) -> str:
    """With it in front of what this process imports its own packages from, as a checkout that is not installed."""
    return ":".join([site, *(path for path in sys.path if path.endswith("integrations"))])
