"""A method in one file, with two options of its own: installed, it works by name wherever a built-in does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

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


# One process runs several commands, since importing the frameworks takes longer than they do.
DRIVER = """
import json, sys

def sft(argv):
    from sstoken_trl.sft import run
    run(argv)

def axolotl(argv):
    from axolotl.cli.train import do_cli
    from sstoken_axolotl.settings import overrides_of
    sys.argv = ["axolotl"]
    do_cli(config=argv[0], **overrides_of(argv[1:]))

def sstoken(argv):
    from sstoken_plugins.cli import main
    return main(argv)

for name, command, *argv in json.loads(sys.argv[1]):
    print(f"\\n@@{name}", flush=True)
    try:
        status = globals()[command](argv) or 0
    except SystemExit as error:
        status = error.code or 0
    except ValueError as error:
        print(error)
        status = 1
    print(f"\\nSTATUS {status}", flush=True)
"""
YAML = "recipes/trl/qlora-cpu.yaml"
FLAGS = ["--sstoken_strategy", "band", "--sstoken_band_low", "0.5", "--sstoken_band_high", "6"]
HELP = "Loss in nats below which a token is learned already. Default: 0.1."


def run(installed: str, commands: list[list[Any]]) -> dict[str, str]:
    """Runs commands, each a name and its parts, where the plugin is installed; returns what each printed."""
    given = json.dumps([[str(part) for part in command] for command in commands])
    environment = {"PYTHONPATH": search_path(installed), "ACCELERATE_USE_CPU": "true", "COLUMNS": "200"}
    status, printed = processes.run(sys.executable, "-c", DRIVER, given, timeout=500, **environment)
    assert status == 0, printed[-4000:]
    return {part.partition("\n")[0]: part for part in printed.split("\n@@")[1:]}


def kept_by_the_band(folder: Path, of: str) -> None:
    """What a report shows to train is what the method keeps."""
    from sstoken_report.table import Report

    report = Report.read_parquet(folder / of)
    loss = -report.columns["log_prob"][report.response]
    assert (report.kept[report.response] == ((loss >= 0.5) & (loss <= 6))).all()
    assert 0 < report.kept.sum() < report.response.sum()


@pytest.mark.slow
def test_trl(installed, model_dir, tmp_path):
    pytest.importorskip("trl")
    pytest.importorskip("pyarrow")
    settings = yaml.safe_load((TOP / YAML).read_text())
    settings |= {"sstoken_strategy": "band", "sstoken_band_low": 0.5, "sstoken_band_high": 6}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    short = ["--model_name_or_path", model_dir, "--load_in_4bit", "false", "--max_steps", 1, "--report_to", "none"]
    flags = ["--config", YAML, *short, "--output_dir", tmp_path / "flags", *FLAGS]
    printed = run(
        installed,
        [
            ["listed", "sstoken", "plugins"],
            ["help", "sft", "--help"],
            ["refused", "sft", *flags, "--sstoken_band_high", -1],
            ["misplaced", "sft", *flags, "--sstoken_strategy", "full"],
            ["diagnosed", "sstoken", "doctor", *flags],
            ["found", "sstoken", "doctor", *flags, "--sstoken_band_high", -1],
            ["shown", "sstoken", "inspect", *flags, "--out", tmp_path / "look", "-n", 4],
            ["by flags", "sft", *flags, "--sstoken_report_steps", 1, "--sstoken_report_samples", 6],
            ["by YAML", "sft", "--config", tmp_path / "run.yaml", *short, "--output_dir", tmp_path / "yaml"],
        ],
    )
    assert any(line.split()[:1] == ["band"] for line in printed["listed"].splitlines())
    assert "Every token with `band_low <= -log p <= band_high`." in printed["listed"]
    assert "--sstoken_band_low" in printed["help"]
    assert HELP in " ".join(printed["help"].split())
    for name in ("refused", "found"):
        assert "`sstoken_band_high` is -1.0: set it above 0." in printed[name]
        assert "STATUS 1" in printed[name]
    assert "`sstoken_band_low` is 0.5, which `sstoken_strategy` 'full'" in printed["misplaced"]
    assert "STATUS 1" in printed["misplaced"]
    for name in ("diagnosed", "shown", "by flags", "by YAML"):
        assert "STATUS 0" in printed[name], printed[name][-3000:]
    assert CHOSEN in printed["diagnosed"]
    assert "4 samples, step 0" in printed["shown"]
    assert CHOSEN in (tmp_path / "look" / "sstoken-inspect.html").read_text()
    kept_by_the_band(tmp_path, "look/sstoken-inspect.parquet")
    kept_by_the_band(tmp_path, "flags/_sstoken-report/step-000000.parquet")
    by_flags, by_yaml = (log_of(tmp_path / name)[0] for name in ("flags", "yaml"))
    assert 0 < by_flags["sstoken/keep_rate"] < 1
    assert (by_yaml["loss"], by_yaml["sstoken/keep_rate"]) == (by_flags["loss"], by_flags["sstoken/keep_rate"])


@pytest.mark.slow
def test_axolotl(installed, model_dir, tmp_path):
    pytest.importorskip("axolotl")
    pytest.importorskip("pyarrow")
    settings = yaml.safe_load((TOP / "recipes" / "axolotl" / "lora-cpu.yaml").read_text())
    settings |= {
        "base_model": str(model_dir), "output_dir": str(tmp_path / "out"), "val_set_size": 0, "max_steps": 1,
        "dataset_prepared_path": str(tmp_path / "data"), "save_steps": 1,
        "sstoken": {"strategy": "band", "band_low": 0.5, "band_high": 6, "report_steps": 1, "report_samples": 6},
    }  # fmt: skip
    settings.pop("eval_steps")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    printed = run(
        installed,
        [
            ["refused", "axolotl", path, "--sstoken__band_low=-2"],
            ["diagnosed", "sstoken", "doctor", path],
            ["found", "sstoken", "doctor", path, "--sstoken__band_low=-2"],
            ["shown", "sstoken", "inspect", path, "--out", tmp_path / "look", "-n", 4],
            ["trained", "axolotl", path],
        ],
    )
    for name in ("refused", "found"):
        assert "`band_low` is -2.0: set it to 0 or more." in printed[name]
        assert "STATUS 1" in printed[name]
    for name in ("diagnosed", "shown", "trained"):
        assert "STATUS 0" in printed[name], printed[name][-3000:]
    assert CHOSEN in printed["diagnosed"]
    assert CHOSEN in printed["trained"]
    assert "4 samples, step 0" in printed["shown"]
    kept_by_the_band(tmp_path, "look/sstoken-inspect.parquet")
    kept_by_the_band(tmp_path, "out/_sstoken-report/step-000000.parquet")
    assert 0 < log_of(tmp_path / "out")[0]["sstoken/keep_rate"] < 1
