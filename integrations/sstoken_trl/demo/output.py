"""The folder the demo writes to, which may be somebody's."""

from __future__ import annotations

from pathlib import Path

from .errors import DemoError

MARKER = "sstoken-demo.json"


def claim(folder: Path) -> bool:
    """Makes the folder, or takes over that of an earlier demo run; returns whether there was one.

    Raises:
        DemoError: if the folder holds what no demo run has written.
    """
    if folder.exists() and not folder.is_dir():
        raise DemoError(f"--output-dir {folder} is a file: choose another folder, nothing was changed.")
    used = folder.is_dir() and any(folder.iterdir())
    if used and not (folder / MARKER).is_file():
        raise DemoError(
            f"--output-dir {folder} holds something else than an earlier demo run: choose another folder, nothing "
            "was changed."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"--output-dir {folder} cannot be made: {error.strerror}. Choose another folder.") from error
    return used
