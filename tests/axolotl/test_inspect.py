"""`sstoken inspect` with an Axolotl YAML shows what Axolotl would train on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("pyarrow")
pytest.importorskip("matplotlib")
pytest.importorskip("rich")

from axolotl.integrations.base import PluginManager

from sstoken_commands import compare
from sstoken_commands.inspect import main
from sstoken_report.table import Report

from .conftest import SSTOKEN, train


@pytest.fixture
def inspect(settings, tmp_path, monkeypatch):
    """Runs the command on these settings; returns its exit status."""

    def run(*arguments: str, main=main, **changes) -> int:
        path = tmp_path / "inspected.yaml"
        content = {**settings, "plugins": [SSTOKEN], **changes}
        path.write_text(yaml.safe_dump({name: value for name, value in content.items() if value is not None}))
        manager = PluginManager.get_instance()
        manager.plugins.clear()
        manager.cfg = None
        monkeypatch.setattr("sys.argv", ["axolotl"])
        try:
            return main([str(path), "--out", str(tmp_path / "shown"), *arguments])
        finally:
            manager.plugins.clear()

    return run


def same(shown: Report, trained: Report) -> bool:
    samples = {tuple(sample["token_id"]): sample for sample in trained.samples()}
    for sample in shown.samples():
        other = samples[tuple(sample["token_id"])]
        assert np.allclose(sample["log_prob"], other["log_prob"], atol=1e-5, equal_nan=True)
        assert np.array_equal(np.nan_to_num(sample["weight"]), np.nan_to_num(other["weight"]))
    return True


@pytest.mark.parametrize(
    "packing", [pytest.param(False, id="padded"), pytest.param(True, id="packed", marks=pytest.mark.slow)]
)
def test_it_shows_what_the_training_selects(settings, inspect, tmp_path, capsys, packing):
    settings |= {"sample_packing": packing, "micro_batch_size": 2, "save_strategy": "steps", "save_steps": 2}
    out = Path(settings["output_dir"])
    train(settings, sstoken={"report_steps": 2, "report_samples": 24})
    before = sorted(path.name for path in out.iterdir())

    # A page for each step is the training's business.
    assert inspect("-n", "5", "--show", "1", sstoken={"report_steps": 2}) == 0
    printed = capsys.readouterr().out
    assert "5 samples, step 0" in printed
    assert "REL is 0 everywhere" in printed
    shown = Report.read_parquet(tmp_path / "shown" / "sstoken-inspect.parquet")
    assert shown.n_samples == 5
    assert same(shown, Report.read_parquet(out / "_sstoken-report" / "step-000000.parquet"))

    assert inspect("-n", "24", "--adapter", str(out / "checkpoint-2")) == 0
    assert "24 samples, step 2" in capsys.readouterr().out
    shown = Report.read_parquet(tmp_path / "shown" / "sstoken-inspect.parquet")
    assert same(shown, Report.read_parquet(out / "_sstoken-report" / "step-000002.parquet"))
    assert (tmp_path / "shown" / "sstoken-inspect.html").is_file()

    # Overrides are those of Axolotl's command line.
    assert inspect("--sstoken__rho=1.0", "--show=0") == 0
    shown = Report.read_parquet(tmp_path / "shown" / "sstoken-inspect.parquet")
    assert shown.kept.sum() == shown.response.sum()
    assert sorted(path.name for path in out.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (["--sstoken__rho=2"], {}, r"`rho` is 2"),
        (["--sstoken__enabled=false"], {}, "`sstoken` has `enabled: false`"),
        ([], {"plugins": []}, "`plugins` does not have `sstoken_axolotl.SSTokenPlugin`"),
        (["--rho", "0.5"], {}, "'--rho' is not written as --key=value"),
        ([], {"base_model": None}, "base_model\n  Field required"),
    ],
)
def test_what_cannot_be_shown_is_said(inspect, capsys, arguments, changes, message):
    assert inspect(*arguments, **changes) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_two_settings_are_compared(inspect, tmp_path, capsys):
    assert inspect("-n", "4", "--vary", "rho=0.4,0.8", main=compare.main, sstoken={"gamma": 1.0}) == 0
    found = json.loads((tmp_path / "shown" / "sstoken-compare.json").read_text())
    assert [each["rho"] for each in found["config"]] == [0.4, 0.8]
    assert found["totals"][0]["gained"][1] > 0
    assert found["totals"][0]["lost"][1] == 0  # of the same ranking, more are kept
    assert "0.8 changes" in capsys.readouterr().out
