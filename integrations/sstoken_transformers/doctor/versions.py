"""Which versions are installed, and which the tests run with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

TESTED = {
    "torch": ("2.13.0",),
    "transformers": ("5.16.1", "5.24.0"),
    "peft": ("0.20.0", "0.21.2"),
    "bitsandbytes": ("0.50.2",),
    "trl": ("1.9.0", "1.16.0"),
    "axolotl": ("0.19.0",),
    "ms-swift": ("4.6.0",),
}


@dataclass(frozen=True)
class Version:
    """Attributes:
    installed: None if it is not.
    """

    package: str
    installed: str | None
    tested: tuple[str, ...]
    is_tested: bool


def versions(*packages: str) -> Iterator[Version]:
    for package in packages:
        try:
            installed = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed = None
        tested = TESTED[package]
        public = (installed or "").partition("+")[0]  # torch says how it was built behind it
        yield Version(package, installed, tested, public in tested)
