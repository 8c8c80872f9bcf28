"""What is no report, or no longer the one that was written, is named in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sstoken_report.page import render
from sstoken_report.table import ABOUT, CHECKSUM, Report, checksum

OLD = Path(__file__).parent / "data" / "version-0.1.0.parquet"


@pytest.fixture
def path(report, tmp_path) -> Path:
    report.write_parquet(tmp_path / "report.parquet")
    return tmp_path / "report.parquet"


@pytest.mark.parametrize("damage", ["cut", "foreign", "absent"])
def test_what_is_no_report_is_named(damage, path):
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "foreign":
        pandas.DataFrame({"a": [1]}).to_parquet(path)
    else:
        path.unlink()
    with pytest.raises(ValueError, match=r"report\.parquet is damaged, or no report"):
        Report.read_parquet(path)


def test_no_flipped_bit_shows_another_number(report, path):
    """Every flip is either named or changes nothing that is read."""
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    named = unchanged = 0
    for _ in range(400):
        place, bit = int(rng.integers(len(whole))), int(rng.integers(8))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            read = Report.read_parquet(path)
        except ValueError as error:
            named += str(error).startswith(f"{path} is damaged")
            continue
        assert read.about == report.about
        assert read.columns.keys() == report.columns.keys()
        for name, values in report.columns.items():
            assert np.array_equal(read.columns[name], values, equal_nan=values.dtype == np.float32), name
        unchanged += 1
    assert named + unchanged == 400
    assert named > 300


def without(name):
    return lambda columns, about: columns.pop(name)


def to(name, value):
    return lambda columns, about: about.__setitem__(name, value)


def number_from(first):
    return lambda columns, about: columns.__setitem__("sample", columns["sample"] + np.int32(first))


DAMAGES = {
    "missing column": (without("weight"), "it lacks the column weight"),
    "missing measurement": (without("rel"), "it lacks the column rel"),
    "step is text": (to("step", "7"), "its step is '7'"),
    "step is missing": (lambda columns, about: about.pop("step"), "its step is None"),
    "step is negative": (to("step", -1), "its step is -1"),
    "step is true": (to("step", True), "its step is True"),
    "config is text": (to("config", "x"), "its config is 'x'"),
    "columns are a list": (to("columns", []), r"its columns is \[\]"),
    "controls are a list": (to("controls", [1]), r"its controls are \[1\]"),
    "negative samples": (number_from(-1), "its samples are not numbered from 0"),
    "first sample missing": (number_from(1), "its samples are not numbered from 0"),
}


def write(path, columns, about) -> None:
    """A file whose checksum fits, so that it is the head alone that is wrong."""
    text = json.dumps(about).encode()
    table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
    pq.write_table(table.replace_schema_metadata({ABOUT: text, CHECKSUM: checksum(columns, text)}), path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_heads_are_named(damage, report, path):
    change, expected = DAMAGES[damage]
    columns, about = dict(report.columns), json.loads(json.dumps(report.about))
    change(columns, about)
    write(path, columns, about)
    with pytest.raises(ValueError, match=rf"^\S*report\.parquet is damaged, or no report of sstoken \({expected}"):
        Report.read_parquet(path)


@pytest.mark.parametrize("about", [None, [], "text", 3], ids=str)
def test_heads_that_are_no_mapping_are_named(about, report, path):
    write(path, report.columns, about)
    with pytest.raises(ValueError, match=r"its head is \w+, not a mapping"):
        Report.read_parquet(path)


def test_reports_of_version_0_1_0_can_be_read():
    """They show their numbers; nothing moves, since their pages knew what they moved."""
    old = Report.read_parquet(OLD)
    assert old.about["version"] == "0.1.0"
    assert old.step == 3
    assert set(old.about["columns"]) == {"log_prob", "history_log_prob", "rel", "attention", "entropy"}
    assert old.about["controls"] is None
    assert 0 < old.kept.sum() < old.response.sum()
    page = render(old)
    assert "data-part=" not in page.partition("<script")[0]
    assert 'value="rel"' in page
