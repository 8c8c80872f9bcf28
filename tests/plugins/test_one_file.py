"""A method in one file, with two options of its own: installed, it works by name wherever a built-in does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("transformers")

from .. import processes
from ..local import byte_llama
from ..processes import TOP
from ..recipes.conftest import log_of
from .install import install, search_path

PLUGIN = '''\
"""Trains on the tokens that the model is neither sure of nor lost on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from sstoken_plugins import Documents, Method, NoOptions, Progress, hookimpl, option


@dataclass(frozen=True)
class BandOptions(NoOptions):
    band_low: float = option(
        0.1, "Loss in nats below which a token is learned already.", valid=lambda low: low >= 0,
        otherwise=": set it to 0 or more.", shown=True,
    )  # fmt: skip
    band_high: float = option(
        8.0, "Loss in nats above which a token is left alone.", valid=lambda high: high > 0,
        otherwise=": set it above 0.", shown=True,
    )  # fmt: skip


class Band(Method):
    """Every token with `band_low <= -log p <= band_high`."""

    Options = BandOptions
    selects = True

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["loss"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        loss = signals["loss"]
        return ((loss >= self.options.band_low) & (loss <= self.options.band_high)).float()


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("band", Band)
'''
PROJECT = """\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "sstoken-band"
version = "1.0"

[project.entry-points.sstoken]
band = "sstoken_band"

[tool.setuptools]
py-modules = ["sstoken_band"]
"""
CHOSEN = "strategy=band, band_low=0.5, band_high=6"


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> str:
    assert len(PLUGIN.splitlines()) <= 45
    package = tmp_path_factory.mktemp("band")
    (package / "sstoken_band.py").write_text(PLUGIN)
    (package / "pyproject.toml").write_text(PROJECT)
    return install(package, tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    return byte_llama(tmp_path_factory.mktemp("byte-llama"))


@pytest.fixture
def run(installed):
    """Runs Python where the plugin is installed; returns the status and all that was printed."""

    def command(*arguments: object) -> tuple[int | None, str]:
        environment = {"PYTHONPATH": search_path(installed), "ACCELERATE_USE_CPU": "true", "COLUMNS": "200"}
        return processes.run(sys.executable, *arguments, **environment)

    return command


@pytest.fixture
def trl(model_dir, tmp_path) -> list[str]:
    """Flags of a short run under TRL."""
    pytest.importorskip("trl")
    return [
        "--config", "recipes/trl/qlora-cpu.yaml", "--model_name_or_path", str(model_dir), "--load_in_4bit", "false",
        "--output_dir", str(tmp_path / "out"), "--max_steps", "1", "--report_to", "none",
    ]  # fmt: skip


@pytest.fixture
def axolotl(model_dir, tmp_path) -> Path:
    """A YAML of a short run under Axolotl."""
    pytest.importorskip("axolotl")
    settings = yaml.safe_load((TOP / "recipes" / "axolotl" / "lora-cpu.yaml").read_text())
    settings |= {
        "base_model": str(model_dir), "output_dir": str(tmp_path / "out"), "val_set_size": 0, "max_steps": 1,
        "dataset_prepared_path": str(tmp_path / "data"), "save_steps": 1,
        "sstoken": {"strategy": "band", "band_low": 0.5, "band_high": 6},
    }  # fmt: skip
    settings.pop("eval_steps")
    path = tmp_path / "axolotl.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


FLAGS = ["--sstoken_strategy", "band", "--sstoken_band_low", "0.5", "--sstoken_band_high", "6"]


def test_trl_trains_by_flags_and_by_yaml(run, trl, tmp_path):
    status, printed = run("-m", "sstoken_trl.sft", *trl, *FLAGS)
    assert status == 0, printed[-3000:]
    by_flags = log_of(tmp_path / "out")[0]
    assert 0 < by_flags["sstoken/keep_rate"] < 1

    settings = yaml.safe_load((TOP / "recipes" / "trl" / "qlora-cpu.yaml").read_text())
    settings |= {"sstoken_strategy": "band", "sstoken_band_low": 0.5, "sstoken_band_high": 6}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    trl[1], trl[7] = str(tmp_path / "run.yaml"), str(tmp_path / "again")
    status, printed = run("-m", "sstoken_trl.sft", *trl)
    assert status == 0, printed[-3000:]
    by_yaml = log_of(tmp_path / "again")[0]
    assert by_yaml["loss"] == by_flags["loss"]
    assert by_yaml["sstoken/keep_rate"] == by_flags["sstoken/keep_rate"]


def test_trl_helps_and_refuses(run, trl):
    status, printed = run("-m", "sstoken_trl.sft", "--help")
    assert status == 0
    words = " ".join(printed.split())
    assert "--sstoken_band_low" in words
    assert "Loss in nats below which a token is learned already. Default: 0.1." in words
    status, printed = run("-m", "sstoken_trl.sft", *trl, "--sstoken_strategy", "band", "--sstoken_band_high", "-1")
    assert status != 0
    assert "`sstoken_band_high` is -1.0: set it above 0." in printed
    status, printed = run("-m", "sstoken_trl.sft", *trl, "--sstoken_band_low", "0.5")
    assert status != 0
    assert "`sstoken_band_low` is 0.5, which `sstoken_strategy` 'sstoken'" in printed


def test_axolotl_trains_and_refuses(run, axolotl, tmp_path):
    status, printed = run("-m", "axolotl.cli.train", axolotl)
    assert status == 0, printed[-3000:]
    assert CHOSEN in printed
    assert 0 < log_of(tmp_path / "out")[0]["sstoken/keep_rate"] < 1
    status, printed = run("-m", "axolotl.cli.train", axolotl, "--sstoken__band_low=-2")
    assert status != 0
    assert "`band_low` is -2.0: set it to 0 or more." in printed


@pytest.mark.parametrize("framework", ["trl", "axolotl"])
def test_the_doctor_and_inspect_know_it(run, framework, request, tmp_path):
    pytest.importorskip("pyarrow")
    given = request.getfixturevalue(framework)
    given = [given] if framework == "axolotl" else [*given, *FLAGS]
    wrong = ["--sstoken__band_high=0"] if framework == "axolotl" else ["--sstoken_band_high", "0"]
    status, printed = run("-m", "sstoken_plugins", "doctor", *given)
    assert status == 0, printed[-3000:]
    assert "strategy=band" in printed
    status, printed = run("-m", "sstoken_plugins", "doctor", *given, *wrong)
    assert status == 1
    assert "set it above 0." in printed

    shown = tmp_path / "shown"
    status, printed = run("-m", "sstoken_plugins", "inspect", *given, "--out", shown, "-n", 4)
    assert status == 0, printed[-3000:]
    assert "4 samples, step 0" in printed
    page = json.loads((shown / "sstoken-inspect.json").read_text())
    assert page["about"]["config"]["band_low"] == 0.5
    assert "strategy=band" in (shown / "sstoken-inspect.html").read_text()


def test_reports_of_a_training_show_its_choice(run, trl, tmp_path):
    pytest.importorskip("pyarrow")
    from sstoken_report.table import Report

    status, printed = run(
        "-m", "sstoken_trl.sft", *trl, *FLAGS, "--sstoken_report_steps", "1", "--sstoken_report_samples", "6"
    )
    assert status == 0, printed[-3000:]
    report = Report.read_parquet(tmp_path / "out" / "sstoken-report" / "step-000000.parquet")
    loss = -report.columns["log_prob"][report.response]
    assert (report.kept[report.response] == ((loss >= 0.5) & (loss <= 6))).all()
    assert 0 < report.kept.sum() < report.response.sum()


def test_it_is_listed(run):
    status, printed = run("-m", "sstoken_plugins", "plugins")
    assert status == 0
    assert ["method", "band"] in [line.split()[:2] for line in printed.splitlines()]
    assert "Every token with `band_low <= -log p <= band_high`." in printed
