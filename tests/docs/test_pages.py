"""The pages of the methods say what the code does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .. import processes

DOCS = Path(__file__).parents[2] / "docs"


def test_pages_are_up_to_date():
    for program in ("generate.py", "support.py"):
        status, printed = processes.run(sys.executable, DOCS / program, "--check")
        assert status == 0, printed


def test_links_lead_somewhere():
    for page in (DOCS / "methods").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for part in text.split("](")[1:]:
            target = part.partition(")")[0]
            if "://" not in target:
                assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


@pytest.mark.slow
def test_the_scoreboard_is_what_the_committed_cells_say():
    """`make docs` runs this, too."""
    for module in ("pandas", "scipy", "trl"):
        pytest.importorskip(module)
    status, printed = processes.run(sys.executable, DOCS / "results.py", "--check")
    assert status == 0, printed
