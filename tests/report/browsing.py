"""Using a page as a reader does: headless Chromium, where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium")

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from sstoken_report.page import render
from sstoken_report.table import Report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with its driver")


def start() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def errors(browser: Chrome) -> list[dict[str, str]]:
    return [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def slide(browser: Chrome, part: str, share: float) -> float:
    """Moves the slider of one part of the controls to a share of its way; returns the option's value there."""
    return browser.execute_script(
        "const slider = document.querySelector(`[data-part=${arguments[0]}]`);"
        "slider.value = Number(slider.min) + arguments[1] * (slider.max - slider.min);"
        "slider.dispatchEvent(new Event('input', { bubbles: true }));"
        "return report.values[arguments[0]];",
        part,
        share,
    )


def open_page(browser: Chrome, report: Report, folder: Path) -> None:
    (folder / "report.html").write_text(render(report), encoding="utf-8")
    browser.get((folder / "report.html").as_uri())


def click(browser: Chrome, found: Any) -> None:
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", found)
    found.click()


def open_all(browser: Chrome) -> None:
    """Opens all samples, and waits until they are drawn."""
    click(browser, browser.find_element("id", "open-all"))
    wait = "const ready = () => samples.every((each) => each.open && each.querySelector('.token'));"
    browser.execute_async_script(
        f"const done = arguments[0]; const samples = [...document.querySelectorAll('details.sample')]; {wait}"
        "const look = () => (ready() ? done() : setTimeout(look, 10)); look();"
    )


def fates(browser: Chrome) -> list[bool]:
    """Whether each response token of all samples is kept, as drawn."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#samples .token')].map((token) => token.classList.contains('kept'));"
    )
