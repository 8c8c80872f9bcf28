"""`sstoken compare`: which tokens change their status between methods, options, and report files."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sstoken_plugins.cli import main
from sstoken_report import comparison_terminal
from sstoken_report.comparison import Comparison
from sstoken_report.comparison_page import render
from sstoken_report.folder import FOLDER, FOLDER_BEFORE
from sstoken_report.kinds import kinds_of

from .browsing import click, errors, fates, needs_browser, open_all, open_page


@pytest.fixture(scope="module")
def reports(make_report):
    return {
        "sstoken": make_report(rho=0.5),
        "random": make_report(strategy="random", rho=0.3),
        "grounded": make_report(strategy="grounded"),
    }


@pytest.fixture(scope="module")
def comparison(reports) -> Comparison:
    return Comparison(list(reports.values()), list(reports))


@pytest.fixture(scope="module")
def written(reports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    for name, report in reports.items():
        report.write_parquet(folder / f"{name}.parquet")
    return folder


def test_totals_are_those_of_a_loop_over_the_tokens(reports, comparison):
    first = reports["sstoken"]
    kinds = kinds_of(first)
    for totals in comparison.totals():
        chosen = [totals.kind in ("all response tokens", kind) for kind in kinds]
        places = np.flatnonzero(first.response)[chosen]
        assert totals.n == len(places)
        before = first.kept[places]
        for which, report in enumerate(reports.values()):
            now = report.kept[places]
            assert totals.kept[which] == sum(now)
            assert totals.gained[which] == sum(n and not b for n, b in zip(now, before, strict=True))
            assert totals.lost[which] == sum(b and not n for n, b in zip(now, before, strict=True))
            assert totals.weight[which] == pytest.approx(report.columns["weight"][places].sum())
    assert sum(totals.n for totals in comparison.totals()[1:]) == first.response.sum()


def test_report_files_are_compared_without_a_model(written, reports, tmp_path, capsys):
    paths = [str(written / f"{name}.parquet") for name in ("sstoken", "random")]
    assert main(["compare", *paths, "--names", "ours,chance", "--out", str(tmp_path), "--show", "1"]) == 0
    shown = capsys.readouterr().out
    ours, chance = (reports[name].kept[reports[name].response] for name in ("sstoken", "random"))
    assert f"chance changes {(ours != chance).sum()} of {len(ours)} response tokens" in shown
    assert "tokens change from ours to chance" in shown
    table = pq.read_table(tmp_path / "sstoken-compare.parquet")
    response = table["response"].to_numpy()
    assert table["kept:ours"].to_numpy(zero_copy_only=False)[response].tolist() == ours.tolist()
    assert table["weight:chance"].null_count == (~response).sum()
    found = json.loads((tmp_path / "sstoken-compare.json").read_text())
    assert found["names"] == ["ours", "chance"]
    assert found["totals"][0]["kept"] == [ours.sum(), chance.sum()]
    assert [each["strategy"] for each in found["config"]] == ["sstoken", "random"]


@pytest.mark.parametrize("of_run", [FOLDER, FOLDER_BEFORE])
def test_a_folder_stands_for_its_report(of_run, written, reports, tmp_path):
    (tmp_path / "look").mkdir()
    reports["sstoken"].write_parquet(tmp_path / "look" / "sstoken-inspect.parquet")
    (tmp_path / "run" / of_run).mkdir(parents=True)
    for step, name in ((5, "sstoken"), (10, "random")):
        reports[name].write_parquet(tmp_path / "run" / of_run / f"step-{step:06d}.parquet")
    out = tmp_path / "out"
    assert main(["compare", str(tmp_path / "look"), str(tmp_path / "run"), "--out", str(out)]) == 0
    config = json.loads((out / "sstoken-compare.json").read_text())["config"]
    assert [each["strategy"] for each in config] == ["sstoken", "random"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sstoken.parquet"], "Name two or more reports"),
        (["sstoken.parquet", "nowhere"], "nowhere is no report: name a .parquet"),
        (["sstoken.parquet", "random.parquet", "--names", "a"], "--names has 1 names for 2 reports"),
        (["sstoken.parquet", "sstoken.parquet"], "have the same name"),
        (["sstoken.parquet", "cut.parquet"], "it holds 2 samples, not 6"),
        (["sstoken.parquet", "other.parquet"], "sample 3 has other tokens"),
        (["--model", "m"], "nothing is varied: add --vary OPTION=A,B"),
        (["--model", "m", "--vary", "colour=red,blue"], "--vary is 'colour=red,blue': write model=A,B"),
        (["--model", "m", "--vary", "rho=0.5"], "--vary gives 1 settings: 2 to 12 can be compared"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, message, written, report, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(written)
    columns = {name: values[report.columns["sample"] < 2] for name, values in report.columns.items()}
    type(report)(columns, report.about).write_parquet(written / "cut.parquet")
    ids = np.where(report.columns["sample"] == 2, 7, report.columns["token_id"]).astype(np.int32)
    type(report)({**report.columns, "token_id": ids}, report.about).write_parquet(written / "other.parquet")
    assert main(["compare", *arguments, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_methods_are_compared_with_a_model(model_dir, rows, tmp_path):
    """The reports are those of `sstoken inspect` with the same options."""
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = ["--model", str(model_dir), "--data", str(tmp_path / "data.jsonl"), "--use_cpu", "true"]
    arguments = [*run, "--vary", "strategy=sstoken,random", "--vary", "rho=0.4,0.8", "-n", "4"]
    assert main(["compare", *arguments, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "sstoken-compare.json").read_text())
    assert found["names"][1] == "strategy=sstoken rho=0.8"
    assert [(each["strategy"], each["rho"]) for each in found["config"]] == [
        ("sstoken", 0.4), ("sstoken", 0.8), ("random", 0.4), ("random", 0.8),
    ]  # fmt: skip
    totals = found["totals"][0]
    assert totals["kept"][0] < totals["kept"][1]
    assert totals["lost"][1] == 0  # of the same ranking, more are kept
    inspected = ["inspect", *run, "--sstoken_strategy", "sstoken", "--rho", "0.4", "-n", "4", "--out", str(tmp_path)]
    assert main(inspected) == 0
    report = pq.read_table(tmp_path / "sstoken-inspect.parquet")
    kept = pq.read_table(tmp_path / "sstoken-compare.parquet")["kept:strategy=sstoken rho=0.4"]
    response = report["response"].to_numpy()
    expected = report["weight"].to_numpy()[response] != 0
    assert kept.to_numpy(zero_copy_only=False)[response].tolist() == expected.tolist()


def test_a_checkpoint_is_compared_with_its_beginning(model_dir, adapter, rows, tmp_path):
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = ["--model", str(model_dir), "--data", str(tmp_path / "data.jsonl"), "--use_cpu", "true", "-n", "4"]
    assert main(["compare", *run, "--vary", f"adapter=none,{adapter}", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "sstoken-compare.json").read_text())
    assert found["names"] == ["none", str(adapter)]
    assert found["totals"][0]["gained"][1] > 0


def test_the_terminal_marks_changes_without_colours_and_runs_nothing(comparison):
    console = Console(record=True, no_color=True, color_system=None, width=100)
    comparison_terminal.show(console, comparison, 6)
    text = console.export_text()
    assert "[+" in text
    assert "[-" in text
    assert "\x1b" not in text


@needs_browser
def test_page_shows_what_changes_and_counts_as_the_other_page(comparison, reports, browser, tmp_path):
    open_page(browser, reports["sstoken"], tmp_path)
    counted = browser.execute_script("return kindsOf(report).map(([name, { kept, seen }]) => [name, seen, kept])")
    assert counted == [[each.kind, each.n, each.kept[0]] for each in comparison.totals()[1:]]
    (tmp_path / "compare.html").write_text(render(comparison), encoding="utf-8")
    browser.get((tmp_path / "compare.html").as_uri())
    open_all(browser)
    for which in (1, 2):
        (label,) = (
            each.find_element("xpath", "..")
            for each in browser.find_elements("css selector", f"input[name=other][value='{which}']")
        )
        click(browser, label)
        assert fates(browser) == comparison.kept[which].tolist()
        classes = (
            "return [...document.querySelectorAll('#samples .token')].map((t) => t.classList.contains(arguments[0]))"
        )
        now, before = comparison.kept[which], comparison.kept[0]
        assert browser.execute_script(classes, "gained") == (now & ~before).tolist()
        assert browser.execute_script(classes, "lost") == (before & ~now).tolist()
        assert f"{(now != before).sum()} of {len(now)} tokens" in browser.find_element("id", "changes").text
    click(browser, browser.find_element("css selector", "#samples .token"))
    shown = browser.find_element("id", "detail").text
    assert all(name in shown for name in reports)
    assert errors(browser) == []
    assert browser.execute_script("return window.pwned") is None
