"""axe-core looks at every kind of page, as wide and narrow as screens are, light and dark."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("axe_core_python")
pytest.importorskip("selenium")

from sstoken_report import comparison_page
from sstoken_report import folder as files
from sstoken_report.comparison import Comparison
from sstoken_report.index import rebuild

from .browsing import errors, needs_browser, open_all

pytestmark = needs_browser
AXE = Path(str(importlib.util.find_spec("axe_core_python").origin)).with_name("axe.min.js")
PAGES = ("index.html", "step-000010.html", "compare.html", "audit.html")
WITH_SAMPLES = PAGES[1:3]
WIDTHS = (390, 768, 1280, 1920)


@pytest.fixture(scope="module")
def run_folder(make_report, rows, tmp_path_factory) -> Path:
    """Two reports of a run with their index, how they differ, and an audit of their data."""
    pytest.importorskip("datasketch")
    from sstoken_audit import audit
    from sstoken_audit.page import render

    folder = tmp_path_factory.mktemp("run")
    for step in (0, 10):
        files.write(files.parquet_path(folder, step), make_report(step).write_parquet)
    rebuild(folder)
    compared = Comparison(
        [make_report(10), make_report(10, rho=0.3), make_report(10, strategy="dft")], ["a", "b", "c"]
    )
    (folder / "compare.html").write_text(comparison_page.render(compared), encoding="utf-8")
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *rows]), encoding="utf-8")
    (folder / "audit.html").write_text(render(audit(folder / "chats.jsonl")), encoding="utf-8")
    return folder


@pytest.fixture(params=["light", "dark"])
def screen(request, browser):
    """Opens a page on a screen of some width, in a colour scheme."""

    def show(path: Path, width: int) -> None:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        media = [{"name": "prefers-color-scheme", "value": request.param}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        browser.get("about:blank")
        browser.get(path.as_uri())
        if path.name in WITH_SAMPLES:
            open_all(browser)
        if folder := os.environ.get("SSTOKEN_SCREENSHOTS"):  # for people, who see more
            browser.save_screenshot(str(Path(folder, f"{path.name}-{request.param}-{width}.png")))

    yield show
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("name", PAGES)
def test_it_fits_every_width(browser, screen, run_folder, name):
    for width in WIDTHS:
        screen(run_folder / name, width)
        assert browser.execute_script("return innerWidth") == width
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert errors(browser) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(browser, screen, run_folder, name):
    """On the narrowest screen, where everything is there too."""
    browser.set_script_timeout(300)
    screen(run_folder / name, min(WIDTHS))
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run(document).then(arguments[0])")
    serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    told = [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in serious]
    assert not serious, json.dumps(told, indent=1)
