"""Finding one's way in a page: search, sort, filter, links, small screens, paper."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

pytest.importorskip("selenium")

from sstoken_report.folder import parquet_path
from sstoken_report.index import BLOCK, rebuild
from sstoken_report.notebook import SelectionView
from sstoken_report.page import render
from sstoken_report.table import Report

from .browsing import click, errors, needs_browser, open_page, slide
from .conftest import ANSWERS
from .test_methods import every_other

pytestmark = needs_browser


def listed(browser) -> list[int]:
    """The samples that are shown, from top to bottom."""
    return browser.execute_script(
        "return [...document.querySelectorAll('details.sample:not([hidden])')].map((d) => Number(d.dataset.sample))"
    )


def choose(browser, name: str, value: str) -> None:
    browser.execute_script(
        "const input = document.getElementById(arguments[0]); input.value = arguments[1];"
        "input.dispatchEvent(new Event('input')); input.dispatchEvent(new Event('change'));",
        name,
        value,
    )


def test_search_finds_text_across_tokens_and_marks_it(opened):
    choose(opened, "search", "FACTORIAL")  # every token is a letter
    opened.execute_async_script("setTimeout(arguments[0], 300)")
    code = list(ANSWERS).index("Code?")
    assert listed(opened) == [code]
    assert opened.find_element("id", "found").text == "1 of 6 samples"
    click(opened, opened.find_element("css selector", "details.sample:not([hidden]) summary b"))
    opened.execute_async_script("setTimeout(arguments[0], 100)")
    marked = opened.execute_script("return [...CSS.highlights.get('found')].map((range) => range.toString())")
    assert marked == ["factorial"] * 24
    choose(opened, "search", "")
    opened.execute_async_script("setTimeout(arguments[0], 300)")
    assert listed(opened) == list(range(6))
    assert errors(opened) == []


def test_sort_and_filter(make_report, browser, tmp_path):
    report = make_report(strategy="grounded")
    open_page(browser, report, tmp_path)
    rates = [float((s["weight"] == 1).sum() / s["response"].sum()) for s in report.samples()]
    sums = [float(np.nansum(s["prompt_gain"])) for s in report.samples()]
    choose(browser, "sort", "share kept")
    assert listed(browser) == sorted(range(6), key=lambda i: rates[i])
    click(browser, browser.find_element("id", "direction"))
    assert listed(browser) == sorted(range(6), key=lambda i: -rates[i])
    choose(browser, "sort", "gain from the prompt, sum")
    assert listed(browser) == sorted(range(6), key=lambda i: -sums[i])
    choose(browser, "show", "none")
    assert set(listed(browser)) == {i for i in range(6) if rates[i] == 0}
    choose(browser, "show", "some")
    assert set(listed(browser)) == {i for i in range(6) if rates[i] < 1}
    assert errors(browser) == []


def test_what_the_sliders_changed_can_be_listed(opened):
    choose(opened, "show", "changed")
    assert listed(opened) == []
    slide(opened, "top", 1)
    opened.execute_async_script("setTimeout(arguments[0], 300)")
    assert listed(opened) == list(range(6))
    click(opened, opened.find_element("id", "reset"))
    opened.execute_async_script("setTimeout(arguments[0], 300)")
    assert listed(opened) == []


def test_a_link_leads_to_its_sample(browser, page):
    browser.get("about:blank")
    browser.get(page.as_uri() + "#sample-4")
    sample = browser.find_element("id", "sample-4")
    assert sample.get_attribute("open")
    top = browser.execute_script("return arguments[0].getBoundingClientRect().top", sample)
    controls = browser.execute_script("return document.getElementById('controls').getBoundingClientRect().bottom")
    assert controls - 1 <= top < 500
    click(browser, browser.find_element("css selector", "#sample-2 summary b"))
    click(browser, browser.find_element("css selector", "#sample-2 .anchor"))
    assert browser.current_url.endswith("#sample-2")


def test_weights_of_the_data_are_in_the_page(make_report, browser, tmp_path):
    report = make_report(lookup=every_other, weights="weight")
    open_page(browser, report, tmp_path)
    rho = slide(browser, "top", 0.8)
    again = make_report(lookup=every_other, weights="weight", rho=rho)
    assert browser.execute_script("return Array.from(report.kept, Boolean)") == again.kept[again.response].tolist()


def test_kinds_of_tokens_add_up(opened, report):
    kinds = opened.execute_script("return kindsOf(report)")
    assert sum(count["seen"] for _, count in kinds) == report.response.sum()
    assert sum(count["kept"] for _, count in kinds) == report.kept.sum()
    found = {name: count["seen"] for name, count in kinds}
    assert found["ends of answers"] == 6
    digits = sum(bool(re.fullmatch(r"\d", text)) for text in report.columns["text"][report.response])
    assert found["numbers"] == digits


def test_rows_of_the_data_are_named(opened):
    assert "row 3" in opened.find_element("css selector", "#sample-4 summary").text


@pytest.mark.parametrize("method", ["sstoken_trimmed", "grounded"])
def test_narrow_screens(method, make_report, browser, tmp_path):
    report = make_report(strategy=method)
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        open_page(browser, report, tmp_path)
        browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_paper_shows_what_is_open_and_no_controls(opened):
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        hidden = opened.execute_script(
            "return ['#controls', '#detail', '.list'].map((q) => getComputedStyle(document.querySelector(q)).display)"
        )
        assert hidden == ["none"] * 3
        assert opened.find_element("css selector", "#sample-1 .text").is_displayed()
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_notebook_runs_the_page_in_its_frame(report, browser, tmp_path):
    cell = tmp_path / "cell.html"
    cell.write_text(f"<!doctype html><title>Notebook</title><p>Cell</p>{SelectionView(report)._repr_html_()}", "utf-8")
    browser.get(cell.as_uri())
    browser.switch_to.frame(0)
    try:
        slide(browser, "top", 1)
        assert browser.execute_script("return report.kept.every((one) => one === 1)")
        assert browser.find_elements("css selector", "#samples .token.kept")
    finally:
        browser.switch_to.default_content()
    assert errors(browser) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_index_breaks_long_responses_alike_in_every_step(width, make_report, browser, tmp_path):
    for step in (0, 5, 100):
        make_report(step=step, strategy="random").write_parquet(parquet_path(tmp_path, step))
    assert rebuild(tmp_path) == [0, 5, 100]
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get((tmp_path / "index.html").as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        blocks = browser.execute_script(
            "const box = (each) => each.getBoundingClientRect();"
            "return [...document.querySelectorAll('.stripes table')].map((table) => [box(table).right,"
            "[...table.rows].map((row) => row.cells.length), [...table.rows].map((row) => box(row).height)])"
        )
        for right, lengths, heights in blocks:
            assert right <= width
            assert len(set(lengths)) == 1
            assert max(lengths) <= BLOCK + 1
            assert len(set(heights[1:])) == 1
        texts = browser.execute_script(
            "return [...document.querySelector('.stripes').querySelectorAll('thead span')].map((s) => s.textContent)"
        )
        assert "".join(texts).startswith("```html⏎<script>window")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert errors(browser) == []


@pytest.mark.slow  # a time: for an idle machine
def test_two_hundred_long_samples_are_searched_within_a_second(report, browser, tmp_path):
    rng = np.random.default_rng(0)
    n = 200 * 2000
    columns = {
        name: rng.standard_normal(n).astype(np.float32) for name in (*report.about["columns"], "score", "weight")
    }
    columns |= {
        "sample": np.repeat(np.arange(200, dtype=np.int32), 2000),
        "row": np.repeat(np.arange(200, dtype=np.int32), 2000),
        "position": np.tile(np.arange(2000, dtype=np.int32), 200),
        "token_id": rng.integers(0, 20_000, n).astype(np.int32),
        "response": np.ones(n, bool),
        "eligible": np.ones(n, bool),
        "rank": np.zeros(n, np.int32),
    }
    columns["text"] = np.array([f" token{i}" for i in columns["token_id"]], dtype=object)
    about = {**json.loads(json.dumps(report.about)), "controls": None}
    (tmp_path / "report.html").write_text(render(Report(columns, about)), encoding="utf-8")
    browser.get((tmp_path / "report.html").as_uri())
    took = browser.execute_async_script(
        "const done = arguments[0]; const search = document.getElementById('search');"
        "const found = document.getElementById('found'); const begin = performance.now();"
        "new MutationObserver(() => done(performance.now() - begin)).observe(found, { childList: true });"
        "search.value = 'token12345 '; search.dispatchEvent(new Event('input'));"
    )
    matches = (columns["token_id"].reshape(200, 2000)[:, :-1] == 12345).any(1).sum()
    assert len(listed(browser)) == matches
    assert took < 1000, took
