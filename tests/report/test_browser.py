"""The page in a real browser: headless Chromium, where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("selenium")

from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains

from sstoken_report.page import render

from .test_table import selected

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with its driver")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(report, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, page) -> Chrome:
    browser.get(page.as_uri())
    return browser


def errors(browser: Chrome) -> list[dict[str, str]]:
    return [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def slide(browser: Chrome, name: str, value: float) -> None:
    browser.execute_script(
        "const slider = document.getElementById(arguments[0]); slider.value = arguments[1];"
        "slider.dispatchEvent(new Event('input', { bubbles: true }));",
        name,
        str(value),
    )


def fates(browser: Chrome) -> list[bool]:
    """Of the response tokens of all samples, as drawn."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#samples .token')].map((token) => token.classList.contains('kept'));"
    )


def test_data_are_shown_and_not_run(opened, report):
    opened.find_element("id", "open-all").click()
    assert errors(opened) == []
    assert opened.execute_script("return window.pwned") is None
    assert opened.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert opened.execute_script("return document.querySelectorAll('main script, main img, main style').length") == 0
    shown = opened.execute_script("return document.getElementById('samples').textContent")
    assert "<script>window.pwned = 1</script><img src=x onerror=" in shown
    assert "北京" in shown
    assert "👩‍👩‍👧‍👦" in shown
    assert fates(opened) == report.kept[report.response].tolist()


def test_page_selects_as_the_core_does(opened, report):
    opened.find_element("id", "open-all").click()
    settings = [(rho, gamma) for rho in (0.01, 0.33, 0.55, 0.7, 1.0) for gamma in (0.0, 0.29, 0.6, 1.0)]
    assert len(settings) == 20
    for rho, gamma in settings:
        slide(opened, "rho", rho)
        slide(opened, "gamma", gamma)
        expected = np.concatenate([selected(s, rho, gamma)[s["response"]] for s in report.samples()])
        assert opened.execute_script("return Array.from(window.report.kept)") == expected.astype(int).tolist()
        assert fates(opened) == expected.tolist()
    opened.find_element("id", "reset").click()
    assert fates(opened) == report.kept[report.response].tolist()
    assert opened.find_element("id", "changes").text == "as in the report"
    assert errors(opened) == []


def test_views_switch(opened):
    colours = set()
    for view in ("kept", "score", "rel", "attention"):
        opened.execute_script(f"document.querySelector('input[value={view}]').click()")
        assert opened.execute_script("return document.body.dataset.view") == view
        tokens = opened.execute_script(
            "return [...document.querySelectorAll('#samples .token')].map((t) => getComputedStyle(t).backgroundColor)"
        )
        assert len(set(tokens)) > 1
        colours.add(tuple(tokens))
    assert len(colours) == 4
    assert errors(opened) == []


def test_keyboard_alone_is_enough(opened):
    opened.execute_script("document.querySelector('details.sample summary').focus()")
    keys = ActionChains(opened)
    keys.send_keys(Keys.TAB, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
    assert opened.execute_script("return document.activeElement.dataset.i") == "2"
    shown = opened.find_element("id", "detail").text
    assert all(word in shown for word in ("rank", "REL", "attention", "log-prob now", "log-prob history"))
    ActionChains(opened).send_keys(Keys.END, Keys.HOME).perform()
    assert opened.execute_script("return document.activeElement.dataset.i") == "0"
    opened.execute_script("document.getElementById('rho').focus()")
    ActionChains(opened).send_keys(Keys.ARROW_LEFT).perform()
    assert opened.find_element("css selector", "output[for=rho]").text == "0.59"


def test_phone(opened):
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        opened.find_element("id", "open-all").click()
        assert opened.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        token = opened.find_elements("css selector", "#samples .token")[5]
        opened.execute_script("arguments[0].scrollIntoView({ block: 'center' }); arguments[0].click()", token)
        assert "rank" in opened.find_element("id", "detail").text
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(scheme, opened):
    """Contrast of at least 4.5 between ground and text, quiet text too (WCAG AA)."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    colours = opened.execute_script(
        "const style = (q, name) => getComputedStyle(document.querySelector(q))[name];"
        "return [style('body', 'backgroundColor'), style('body', 'color'), style('.quiet', 'color')]"
    )
    ground, *texts = (luminance(colour) for colour in colours)
    assert (ground > 0.5) == (scheme == "light")
    for text in texts:
        assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) >= 4.5


def luminance(colour: str) -> float:
    parts = np.array([float(part) for part in colour[4:-1].split(",")]) / 255
    return float(
        np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    )


@pytest.mark.parametrize(
    "options",
    [
        {"sstoken_gamma": 0.0},
        {"sstoken_gamma": 1.0},
        {"sstoken_strategy": "random"},
        {"sstoken_strategy": "full"},
        {"sstoken_strategy": "grounded"},
    ],
    ids=str,
)
def test_what_is_not_there_is_not_offered(options, make_report, browser, tmp_path):
    report = make_report(**options)
    (tmp_path / "report.html").write_text(render(report), encoding="utf-8")
    browser.get((tmp_path / "report.html").as_uri())
    assert errors(browser) == []
    disabled = browser.execute_script(
        "return [...document.querySelectorAll('input:disabled')].map((i) => i.value || i.id)"
    )
    assert "kept" not in disabled
    assert ("rel" in disabled) == (not report.knows("rel"))
    assert ("attention" in disabled) == (not report.knows("attention"))
    assert ("prompt_gain" in disabled) == (options.get("sstoken_strategy") != "grounded")
    assert browser.find_element("id", "gamma").is_enabled() is False
    assert browser.find_element("id", "rho").is_enabled() == (
        options.get("sstoken_strategy") not in ("full", "grounded")
    )
