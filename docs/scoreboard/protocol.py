"""The tables of the protocol, as its own report has made them of the committed cells."""

from __future__ import annotations

import re
from pathlib import Path


def part(summary: Path, figure: str) -> str:
    """What is generated, from summary.md.

    Args:
        figure: of the report, relative to the page.
    """
    _, _, text = summary.read_text(encoding="utf-8").partition("\n")  # without its title
    text = re.sub(r"\n## `\w+`\n", "", text.strip())  # the page has a section for each condition
    return f"{text}\n\n![New skill against old abilities, differences to plain fine-tuning, by arm]({figure})"
