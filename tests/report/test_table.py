"""What is written can be read, by us and by others."""

from __future__ import annotations

import json

import numpy as np
import pandas
import pytest
import torch
from transformers import AutoTokenizer

from sstoken_plugins import Documents, __version__, keep_best, sstoken_score
from sstoken_report.folder import write
from sstoken_report.page import pack, render
from sstoken_report.pieces import pieces
from sstoken_report.table import Report

from .conftest import ANSWERS


def selected(sample, rho: float, gamma: float) -> np.ndarray:
    """The core's choice from the columns of one sample."""
    labels = torch.where(torch.tensor(sample["response"]), 1, -100)[None]
    rel, attention = (torch.tensor(sample[name]).nan_to_num(0)[None] for name in ("rel", "attention"))
    documents = Documents.from_labels(labels)
    return keep_best(sstoken_score(documents, rel, attention, gamma), documents, rho)[0].numpy()


def test_parquet_holds_everything(report, tmp_path):
    report.write_parquet(tmp_path / "report.parquet")
    again = Report.read_parquet(tmp_path / "report.parquet")
    assert again.about == report.about
    assert again.about["version"] == __version__
    for name, values in report.columns.items():
        assert again.columns[name].dtype == values.dtype
        assert np.array_equal(again.columns[name], values, equal_nan=values.dtype == np.float32)
    frame = pandas.read_parquet(tmp_path / "report.parquet")
    assert frame.loc[frame.response, "rel"].notna().all()
    assert frame.loc[~frame.response, "rel"].isna().all()


def test_whole_answers_left_out_can_be_seen(make_report):
    report = make_report(strategy="grounded")
    assert report.knows("prompt_gain")
    judged = {False: 0, True: 0}
    for sample in report.samples():
        gain = np.nansum(sample["prompt_gain"].astype(np.float64))
        if abs(gain) > 1e-3:  # else the sign is that of rounding
            assert np.nan_to_num(sample["weight"]).any() == (gain > 0)
            judged[bool(gain > 0)] += 1
    assert all(judged.values()), judged


def test_a_report_from_before_a_column_was_added_can_be_read(report, tmp_path):
    columns = {name: values for name, values in report.columns.items() if name != "prompt_gain"}
    Report(columns, report.about).write_parquet(tmp_path / "report.parquet")
    old = Report.read_parquet(tmp_path / "report.parquet")
    assert not old.knows("prompt_gain")
    assert "prompt_gain" not in pack(old)


def test_json_holds_the_same_numbers(report, tmp_path):
    write(tmp_path / "report.json", report.write_json)
    samples = json.loads((tmp_path / "report.json").read_text("utf-8"))["samples"]
    assert len(samples) == len(ANSWERS)
    for found, columns in zip(samples, report.samples(), strict=True):
        assert "".join(found["text"]) == "".join(columns["text"])
        rel = np.array([np.nan if value is None else value for value in found["rel"]], np.float32)
        assert np.array_equal(rel, columns["rel"], equal_nan=True)
        assert sum(found["kept"]) == (columns["rank"] > 0)[columns["weight"] == 1].sum()


def test_what_is_shown_follows_from_what_is_written(report):
    """Selecting again from the written columns gives the written selection, and the best ranks are those kept."""
    assert report.knows("rel")
    assert np.abs(np.nan_to_num(report.columns["rel"])).max() > 0
    for sample in report.samples():
        kept = np.nan_to_num(sample["weight"]) != 0
        assert np.array_equal(kept, selected(sample, 0.6, 0.5))
        assert np.array_equal(kept, (sample["rank"] > 0) & (sample["rank"] <= kept.sum()))


@pytest.mark.parametrize("text", ANSWERS.values())
def test_pieces_make_the_text(text, model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    ids = tokenizer(text).input_ids
    parts = pieces(tokenizer, ids)
    assert len(parts) == len(ids)
    assert "".join(parts) == text


def test_a_cut_character_is_no_text(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    assert pieces(tokenizer, tokenizer("é").input_ids[:1]) == ["\N{REPLACEMENT CHARACTER}"]


def test_a_page_of_fifty_long_samples_is_small(report):
    rng = np.random.default_rng(0)
    n = 50 * 1000
    columns = {name: rng.standard_normal(n).astype(np.float32) for name in report.columns}
    columns |= {
        "sample": np.repeat(np.arange(50, dtype=np.int32), 1000),
        "position": np.tile(np.arange(1000, dtype=np.int32), 50),
        "token_id": rng.integers(0, 20_000, n).astype(np.int32),
        "response": np.ones(n, bool),
        "rank": np.ones(n, np.int32),
        "eligible": np.ones(n, bool),
        "weight": np.ones(n, np.float32),
    }
    columns["text"] = np.array([f"token{i}" for i in columns["token_id"]], dtype=object)
    assert len(render(Report(columns, report.about)).encode()) < 2_200_000
