"""The page in a real browser: headless Chromium, where there is one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("selenium")

from selenium.webdriver import Keys
from selenium.webdriver.common.action_chains import ActionChains

from sstoken_plugins import SSTokenConfig, TokenSelector
from sstoken_plugins.errors import Refused
from sstoken_plugins.registry import registered

from .browsing import click, errors, fates, needs_browser, open_all, open_page, slide

pytestmark = needs_browser


def test_data_are_shown_and_not_run(opened, report):
    open_all(opened)
    assert errors(opened) == []
    assert opened.execute_script("return window.pwned") is None
    assert opened.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert opened.execute_script("return document.querySelectorAll('main script, main img, main style').length") == 0
    shown = opened.execute_script("return document.getElementById('samples').textContent")
    assert "<script>window.pwned = 1</script><img src=x onerror=" in shown
    assert "北京" in shown
    assert "👩‍👩‍👧‍👦" in shown
    assert fates(opened) == report.kept[report.response].tolist()


OPTIONS = {"signal": {"signal": "entropy"}, "psft": {"history": "snapshot"}}
"""What a method cannot do without."""
REFERENCE = {"rho1", "token_cleaning", "forgetting"}
"""Methods that cannot do without a reference. Over the whole data, there is nothing to move."""
PARTS = ("top", "blend", "threshold")


def has_controls(method: str) -> bool:
    if method in REFERENCE:
        return method == "rho1"
    selector = TokenSelector(SSTokenConfig(strategy=method, **OPTIONS.get(method, {})))
    return selector.method.controls(selector.progress(0)) is not None


@pytest.mark.parametrize("method", filter(has_controls, registered("method")))
def test_page_selects_as_the_core_does(method, make_report, other_adapter, browser, tmp_path):
    """20 settings of the sliders, each against the core with these options."""
    options = {"strategy": method, **OPTIONS.get(method, {})}
    if method in REFERENCE:
        options["reference_adapter"] = str(other_adapter)
    report = make_report(**options)
    open_page(browser, report, tmp_path)
    open_all(browser)
    assert fates(browser) == report.kept[report.response].tolist()
    controls = report.about["controls"]
    rng = np.random.default_rng(0)
    several = set()
    for _ in range(20):
        moved = {
            controls[part]["option"]: slide(browser, part, rng.choice([0, 1, rng.random()], p=[0.1, 0.1, 0.8]))
            for part in PARTS
            if part in controls
        }
        try:
            again = make_report(**options, **moved)
        except Refused:  # a slider's last stop may be what the method refuses
            continue
        expected = again.kept[report.response].tolist()
        assert browser.execute_script("return Array.from(report.kept, Boolean)") == expected, moved
        assert fates(browser) == expected
        ranks = browser.execute_script("return Array.from(report.rank)")
        assert ranks == again.columns["rank"][report.response].tolist(), moved
        several.add(tuple(expected))
    assert len(several) > 5
    browser.find_element("id", "reset").click()
    assert fates(browser) == report.kept[report.response].tolist()
    assert browser.find_element("id", "changes").text == "as in the report"
    assert errors(browser) == []


def test_a_warm_up_shows_the_values_of_its_step(make_report, browser, tmp_path):
    report = make_report(rel_warmup_steps=5)
    assert "until step 5" in " ".join(report.about["notes"])
    open_page(browser, report, tmp_path)
    assert browser.find_element("css selector", "output[for=option-gamma]").text == "0"
    gamma = slide(browser, "blend", 0.5)
    expected = make_report(gamma=gamma)
    open_all(browser)
    assert fates(browser) == expected.kept[report.response].tolist()


def test_views_switch(opened):
    colours = set()
    names = opened.execute_script("return [...document.querySelectorAll('input[name=view]')].map((i) => i.value)")
    assert {"kept", "score", "rel", "attention", "entropy", "log_prob", "history_log_prob"} <= set(names)
    legend = "return getComputedStyle(document.querySelector('.legend .token.kept')).backgroundColor"
    before = opened.execute_script(legend)
    for view in names:
        opened.execute_script("document.querySelector(`input[value=${arguments[0]}]`).click()", view)
        assert opened.execute_script("return document.body.dataset.view") == view
        tokens = opened.execute_script(
            "return [...document.querySelectorAll('#samples .token')].map((t) => getComputedStyle(t).backgroundColor)"
        )
        assert len(set(tokens)) > 1
        colours.add(tuple(tokens))
        assert opened.execute_script(legend) == before
    assert len(colours) == len(names)
    assert errors(opened) == []


def test_the_bar_follows_the_sliders(opened):
    """The token whose numbers are shown says what the sliders made of it."""
    dropped = opened.find_element("css selector", "#samples .token.dropped")
    click(opened, dropped)
    assert opened.find_element("id", "detail").text.split("\n")[1].startswith("dropped")
    slide(opened, "top", 1)
    assert "kept (in the report: dropped)" in opened.find_element("id", "detail").text


def test_keyboard_alone_is_enough(opened):
    opened.execute_script("document.querySelector('details.sample summary').focus()")
    keys = ActionChains(opened)
    keys.send_keys(Keys.TAB, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
    assert opened.execute_script("return document.activeElement.dataset.i") == "2"
    shown = opened.find_element("id", "detail").text
    assert all(word in shown for word in ("rank", "REL", "attention", "log-prob now", "log-prob history"))
    ActionChains(opened).send_keys(Keys.END, Keys.HOME).perform()
    assert opened.execute_script("return document.activeElement.dataset.i") == "0"
    opened.execute_script("document.getElementById('option-rho').focus()")
    ActionChains(opened).send_keys(Keys.ARROW_LEFT).perform()
    assert opened.find_element("css selector", "output[for=option-rho]").text == "0.59"


def test_phone(opened):
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        open_all(opened)
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
        {"gamma": 0.0},
        {"gamma": 1.0},
        {"strategy": "random"},
        {"strategy": "full"},
        {"strategy": "grounded"},
    ],
    ids=str,
)
def test_what_is_not_there_is_not_offered(options, make_report, browser, tmp_path):
    report = make_report(**options)
    open_page(browser, report, tmp_path)
    assert errors(browser) == []
    views = browser.execute_script("return [...document.querySelectorAll('input[name=view]')].map((i) => i.value)")
    assert views[0] == "kept"
    reads_history = options.get("gamma") == 1.0 or options.get("strategy") == "grounded"
    assert ("rel" in views) == report.knows("rel") == reads_history
    assert ("attention" in views) == report.knows("attention") == (options.get("gamma") == 0.0)
    assert ("prompt_gain" in views) == (options.get("strategy") == "grounded")
    assert "entropy" in views
    sliders = browser.execute_script(
        "return [...document.querySelectorAll('input[data-part]:enabled')].map((i) => i.dataset.part)"
    )
    assert sliders == ([] if options.get("strategy") in ("full", "grounded") else ["top"])
