"""The code blocks of README and documentation."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: where it is.
        line: of its first line in the page.
        language: what stands behind the fence.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str | None = None) -> list[Block]:
    """All of them, or those in one language."""
    found = []
    for page in PAGES:
        for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
            if token.type == "fence":
                found.append(Block(page, (token.map or [0])[0] + 1, token.info.strip(), token.content))
    return [each for each in found if language in (None, each.language)]


def commands(block: Block) -> list[list[str]]:
    """The command lines of a shell block, as words; comments left out."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]
