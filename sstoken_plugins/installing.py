"""How to install what is missing: from where this package itself came."""

from __future__ import annotations

import json
from importlib import metadata
from urllib.parse import unquote, urlparse

NAME = "sstoken-plugins"


def how_to_install(extra: str) -> str:
    """A command that works here: from the checkout, if that is where this package was installed from, else by name."""
    source = _checkout()
    return f'pip install -e "{source}[{extra}]"' if source else f'pip install "{NAME}[{extra}]"'


def _checkout() -> str | None:
    """The folder that was installed with `pip install -e`, if any (PEP 610)."""
    try:
        text = metadata.distribution(NAME).read_text("direct_url.json")
        told = json.loads(text) if text else {}
    except (metadata.PackageNotFoundError, ValueError):
        return None
    if not told.get("dir_info", {}).get("editable"):
        return None
    return unquote(urlparse(told["url"]).path)
