"""The notebook runs from top to bottom, and shows what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("trl")
pytest.importorskip("jinja2")
pytest.importorskip("nbclient")
import nbformat
from nbclient import NotebookClient

from ..processes import TOP

NOTEBOOK = TOP / "recipes" / "notebooks" / "first-look.ipynb"


@pytest.mark.slow
def test_it_runs_and_compares(model_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL", str(model_dir))
    monkeypatch.setenv("STEPS", "2")
    (tmp_path / "recipes").symlink_to(TOP / "recipes")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # nothing of another machine
    NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("<iframe" in output.get("data", {}).get("text/html", "") for output in outputs)
    printed = "".join(output.get("text", "") for output in outputs)
    assert "What to expect of 'trimmed'" in printed
    for name in ("before", "trimmed", "full"):
        assert any(line.startswith(name) and "nats" in line for line in printed.splitlines())
    assert Path(tmp_path, "outputs", "notebook-full", "sstoken.json").is_file()
