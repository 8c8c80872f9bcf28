"""`sstoken audit` as a user runs it: what is written, what is refused, and what a hostile row can do."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("rich")

import pyarrow.parquet as pq

from sstoken_audit import audit
from sstoken_audit.command import main
from sstoken_audit.page import pack, render

from .conftest import pairs, rows

HOSTILE = (
    "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'> "
    "\x1b[31m\x1b]0;pwned\x07 {{ 7 * 7 }}"
)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = rows(pairs(40, seed=9))
    made[3]["answer"] = HOSTILE
    made[8]["answer"] = ""
    lines = [json.dumps(row) for row in made]
    lines[5] = '{"answer" : "w1  w2 .",  "question": "w\\u0031", "kept": [1, 2.50]}'  # spelled as only a user would
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_split_holds_every_row_as_it_was(data, capsys):
    before = data.read_bytes()
    status = main(
        [str(data), "--clean", "good.jsonl", "--suspects", "bad.jsonl", "--weights", "w.jsonl", "--skip", "language"]
    )
    assert status == 0
    assert data.read_bytes() == before
    lines = data.read_text().splitlines()
    good, bad = (data.with_name(name).read_text().splitlines() for name in ("good.jsonl", "bad.jsonl"))
    assert bad == [lines[3], lines[8]]
    assert good == [line for i, line in enumerate(lines) if i not in (3, 8)]
    weights = [json.loads(line) for line in data.with_name("w.jsonl").read_text().splitlines()]
    assert [row["row"] for row in weights if row["weight"] < 1] == [3, 8]
    assert "\x1b" not in capsys.readouterr().out.replace("\x1b[0m", "").replace("\x1b[1m", "")


def test_tables_and_page_say_the_same(data):
    assert main([str(data), "--out", "out"]) == 0
    result = audit(data)
    table = pq.read_table("out/scores.parquet").to_pylist()
    lines = [json.loads(line) for line in data.with_name("out").joinpath("scores.jsonl").read_text().splitlines()]
    page = data.with_name("out").joinpath("index.html").read_text()
    shown = json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL).group(1)
    )
    assert shown == json.loads(json.dumps(pack(result)))
    assert [row["row"] for row in shown["rows"]] == result.order().tolist()
    by_row = {row["row"]: row for row in shown["rows"]}
    for number, (row, line) in enumerate(zip(table, lines, strict=True)):
        assert row["row"] == line["row"] == number
        assert row["reasons"] == line["reasons"] == by_row[number]["reasons"] == result.reasons(number)
        assert row["flagged"] == line["flagged"] == by_row[number]["flagged"] == bool(result.flagged[number])
    frame = result.to_pandas()
    assert frame["flagged"].sum() == result.flagged.sum()
    assert "<script>" not in result._repr_html_()


def test_no_text_of_the_data_is_markup(data):
    page = render(audit(data))
    assert "window.pwned" in page
    assert page.count("<script") == 2  # the data and the page's own
    assert "<img" not in page
    assert "default-src 'none'" in page
    assert "http" not in re.sub(r'http-equiv="Content', "", page).split('id="data"')[0].lower().replace(
        "https:", "http"
    )


def test_nothing_is_written_over(data, capsys):
    mine = data.with_name("mine.jsonl")
    mine.write_text("precious\n")
    for option in ("--clean", "--suspects", "--weights"):
        assert main([str(data), option, "mine.jsonl"]) == 2
        assert f"{option}: mine.jsonl exists already" in capsys.readouterr().err
        assert main([str(data), option, str(data), "--force"]) == 2
        assert "the data themselves" in capsys.readouterr().err
    assert main([str(data), "--clean", "x.jsonl", "--suspects", "x.jsonl"]) == 2
    folder = data.with_name("work")
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    assert main([str(data), "--out", "work"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["thesis.txt"]
    assert mine.read_text() == "precious\n"
    assert main([str(data), "--clean", "mine.jsonl", "--force"]) == 0
    assert main([str(data)]) == 0  # an earlier audit's folder is taken over


def test_exit_status_for_ci(data):
    assert main([str(data), "--fail-above", "0.5"]) == 0
    assert main([str(data), "--fail-above", "0.01"]) == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--fail-above", "5"], "--fail-above is 5"),
        (["--fdr", "0"], "--fdr is 0"),
        (["--threshold", "empty"], "CHECK=NUMBER"),
        (["--checks", "nonsense"], "nonsense"),
        (["--model", "/no/such/model"], "--model /no/such/model: there is no such folder"),
        (["--columns", "question"], "name two"),
    ],
)
def test_wrong_flags_are_named(data, flags, said, capsys):
    assert main([str(data), *flags]) == 2
    assert said in capsys.readouterr().err


def test_with_a_model_from_a_folder(data, model_dir, capsys):
    assert main([str(data), "--model", str(model_dir), "--out", "out"]) == 0
    assert "mismatch" in capsys.readouterr().out
    assert {"prompt_gain", "loss", "entropy", "mismatch"} <= set(pq.read_table("out/scores.parquet").column_names)


def test_a_yaml_of_trl(data, model_dir, capsys):
    pytest.importorskip("trl")
    folder = data.with_name("training")
    folder.mkdir()
    data.rename(folder / "train.jsonl")
    lines = (folder / "train.jsonl").read_text().replace('"question"', '"prompt"').replace('"answer"', '"completion"')
    kept = [{k: json.loads(line)[k] for k in ("prompt", "completion")} for line in lines.splitlines()]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    config = data.with_name("run.yaml")
    config.write_text(f"model_name_or_path: {model_dir}\ndataset_name: {folder}\nmax_length: 64\noutput_dir: out\n")
    assert main(["--config", str(config)]) == 0
    about = json.loads(data.with_name("run-audit").joinpath("sstoken-audit.json").read_text())
    assert about["max_length"] == 64
    assert about["model"] == str(model_dir)


def test_the_checks_are_listed(capsys):
    assert main(["--list"]) == 0
    assert "mismatch (needs a model)" in capsys.readouterr().out
