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


def test_the_table_of_the_study_is_up_to_date():
    pytest.importorskip("pandas")
    status, printed = processes.run(sys.executable, DOCS / "study.py", "--check")
    assert status == 0, printed
