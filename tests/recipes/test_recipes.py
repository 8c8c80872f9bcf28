"""The CPU-size recipes run as they stand, with a tiny model in place of the one from the hub; the others are read."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml

from sstoken_plugins.cli import main

from ..processes import TOP
from .conftest import log_of, run

RECIPES = TOP / "recipes"


@pytest.mark.parametrize(
    "recipe",
    [
        "lora-cpu",
        pytest.param("qlora-cpu", marks=pytest.mark.slow),
        pytest.param("qlora-last-visit-cpu", marks=pytest.mark.slow),
    ],
)
def test_axolotl(recipe, model_dir, tmp_path):
    pytest.importorskip("axolotl")
    output = run(
        "-m", "axolotl.cli.train", f"recipes/axolotl/{recipe}.yaml",
        f"--base_model={model_dir}", f"--output_dir={tmp_path / 'out'}",
        f"--dataset_prepared_path={tmp_path / 'data'}",
        "--max_steps=2", "--save_steps=2", "--eval_steps=2", "--sstoken__rho=0.8",
    )  # fmt: skip
    assert "ssToken is ON" in output
    assert "rho=0.8" in output
    assert 0.8 <= log_of(tmp_path / "out")[0]["sstoken/keep_rate"] < 0.9


@pytest.mark.slow
def test_trl(model_dir, tmp_path):
    pytest.importorskip("trl")
    run(
        "-m", "sstoken_trl.sft", "--config", "recipes/trl/qlora-cpu.yaml", "--model_name_or_path", str(model_dir),
        "--output_dir", str(tmp_path / "out"), "--max_steps", "2", "--sstoken_rho", "0.8", "--report_to", "none",
    )  # fmt: skip
    assert 0.8 <= log_of(tmp_path / "out")[0]["sstoken/keep_rate"] < 0.9


def test_a_recipe_can_be_inspected(model_dir, tmp_path):
    pytest.importorskip("trl")
    pytest.importorskip("pyarrow")
    output = run(
        "-m", "sstoken_plugins", "inspect", "--config", "recipes/trl/qlora-cpu.yaml", "--model", str(model_dir),
        "--out", str(tmp_path), "-n", "5",
    )  # fmt: skip
    assert "5 samples, step 0" in output
    assert (tmp_path / "sstoken-inspect.html").is_file()


def test_full_fine_tuning_with_a_recorded_history(model_dir, tmp_path):
    pytest.importorskip("trl")
    output = run(
        "-m", "sstoken_trl.sft", "--config", "recipes/trl/full-recorded-cpu.yaml", "--model_name_or_path",
        str(model_dir), "--output_dir", str(tmp_path / "out"), "--sstoken_history_store", str(tmp_path / "history"),
        "--max_steps", "2", "--report_to", "none",
    )  # fmt: skip
    assert "History recorded: " in output
    first, second = log_of(tmp_path / "out")
    assert first["sstoken/history_missing"] == first["sstoken/rel_kept"] == 0 < second["sstoken/rel_kept"]


@pytest.mark.slow
def test_trl_in_python(model_dir, tmp_path):
    pytest.importorskip("trl")
    run("recipes/trl/train.py", "--model", str(model_dir), "--output", str(tmp_path / "out"), "--steps", "2")
    assert 0.6 <= log_of(tmp_path / "out")[0]["sstoken/keep_rate"] < 0.7


@pytest.mark.parametrize("recipe", ["qlora-cpu", "full-recorded-cpu"])
def test_the_doctor_finds_nothing_under_trl(recipe, model_dir, monkeypatch, capsys):
    pytest.importorskip("trl")
    monkeypatch.chdir(TOP)
    assert main(["doctor", f"recipes/trl/{recipe}.yaml", "--model_name_or_path", str(model_dir)]) == 0
    assert "No problems found" in capsys.readouterr().out


def test_the_doctor_finds_nothing_under_axolotl(model_dir, tmp_path, monkeypatch, capsys):
    pytest.importorskip("axolotl")
    monkeypatch.chdir(TOP)
    overrides = [f"--base_model={model_dir}", f"--dataset_prepared_path={tmp_path}"]
    assert main(["doctor", "recipes/axolotl/qlora-last-visit-cpu.yaml", *overrides]) == 0
    assert "No problems found" in capsys.readouterr().out


def test_every_key_for_axolotl_is_known():
    """Axolotl ignores a misspelt key."""
    pytest.importorskip("axolotl")
    from axolotl.utils.schemas.config import AxolotlInputConfig

    from sstoken_axolotl.args import SSTokenArgs

    for path in (RECIPES / "axolotl").glob("*.yaml"):
        settings = yaml.safe_load(path.read_text())
        assert not settings.keys() - AxolotlInputConfig.model_fields.keys() - {"sstoken"}
        SSTokenArgs(sstoken=settings.get("sstoken"))


def test_every_key_for_trl_is_known():
    pytest.importorskip("trl")
    from sstoken_trl.sft import make_parser

    for path in (RECIPES / "trl").glob("*.yaml"):
        known = {field.name for kind in make_parser().dataclass_types for field in dataclasses.fields(kind)}
        assert not yaml.safe_load(path.read_text()).keys() - known


@pytest.mark.parametrize("path", [*RECIPES.glob("axolotl/*"), *RECIPES.glob("trl/*")], ids=lambda path: path.name)
def test_it_opens_with_its_command_and_is_in_the_table(path):
    name = str(path.relative_to(RECIPES))
    opening = "\n".join(path.read_text().splitlines()[:12])
    assert len(re.findall(f"recipes/{re.escape(name)}", opening)) >= 2  # the command, and one with an override
    assert f"`{name}`" in (RECIPES / "README.md").read_text()
