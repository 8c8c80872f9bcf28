"""The plugin in `recipes/plugin-example`, installed as its README says and used by name."""

from __future__ import annotations

import sys

import pytest
import yaml

pytest.importorskip("transformers")

import torch

from sstoken_plugins import Documents, Progress

from ..local import byte_llama
from ..processes import TOP
from ..recipes.conftest import log_of, run
from .install import install, search_path


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> str:
    return install(TOP / "recipes" / "plugin-example", tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    return byte_llama(tmp_path_factory.mktemp("byte-llama"))


def test_its_names_are_listed(installed):
    listed = run("-m", "sstoken_plugins", "plugins", PYTHONPATH=search_path(installed))
    names = {line.split()[0] for line in listed.splitlines() if line.strip()}
    assert {"soft_focus", "offness"} <= names
    assert "Installed plugin packages: sstoken-soft-focus 0.1.0" in listed


@pytest.mark.slow
def test_by_name_under_trl(installed, model_dir, tmp_path):
    pytest.importorskip("trl")
    run(
        "-m", "sstoken_trl.sft", "--config", "recipes/trl/qlora-cpu.yaml", "--model_name_or_path", str(model_dir),
        "--output_dir", str(tmp_path / "out"), "--max_steps", "1", "--report_to", "none",
        "--sstoken_strategy", "soft_focus", "--sstoken_softness", "0.5",
        PYTHONPATH=search_path(installed),
    )  # fmt: skip
    assert log_of(tmp_path / "out")[0]["sstoken/keep_rate"] == 1  # it weighs, and drops nothing


@pytest.mark.slow
def test_by_name_under_axolotl(installed, model_dir, tmp_path):
    pytest.importorskip("axolotl")
    settings = yaml.safe_load((TOP / "recipes" / "axolotl" / "lora-cpu.yaml").read_text())
    settings |= {
        "base_model": str(model_dir),
        "sstoken": {"strategy": "soft_focus", "softness": 0.5},
        "output_dir": str(tmp_path / "out"),
        "dataset_prepared_path": str(tmp_path / "data"),
        "max_steps": 1,
        "val_set_size": 0,
        "save_steps": 1,
    }
    settings.pop("eval_steps")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    output = run("-m", "axolotl.cli.train", str(path), PYTHONPATH=search_path(installed))
    assert "strategy=soft_focus, softness=0.5" in output
    assert log_of(tmp_path / "out")[0]["sstoken/keep_rate"] == 1


@pytest.mark.slow
def test_reports_show_its_signal(installed, model_dir, tmp_path):
    pytest.importorskip("trl")
    pq = pytest.importorskip("pyarrow.parquet")
    run(
        "-m", "sstoken_plugins", "inspect", "--config", "recipes/trl/qlora-cpu.yaml", "--model", str(model_dir),
        "--out", str(tmp_path), "-n", "2", "--strategy", "soft_focus", "--softness", "0.5",
        PYTHONPATH=search_path(installed),
    )  # fmt: skip
    assert "offness" in pq.read_table(tmp_path / "sstoken-inspect.parquet").column_names
    assert (
        "more the token surprises the model than the model expected" in (tmp_path / "sstoken-inspect.html").read_text()
    )


def test_its_weights(monkeypatch):
    monkeypatch.syspath_prepend(str(TOP / "recipes" / "plugin-example"))
    from sstoken_soft_focus import SoftFocus, SoftFocusOptions

    torch.manual_seed(0)
    labels = torch.randint(5, 50, (3, 12))
    labels[:, :4] = -100
    labels[2] = -100
    documents = Documents.from_labels(labels)
    offness = torch.randn(3, 12)

    def weights(softness: float) -> torch.Tensor:
        return SoftFocus(SoftFocusOptions(softness)).weights({"offness": offness}, documents, Progress(0))

    for row in (0, 1):
        sharp = weights(0.5)[row, 4:]
        assert sharp.mean().item() == pytest.approx(1, abs=1e-5)
        assert sharp.argsort().tolist() == offness[row, 4:].argsort(descending=True).tolist()
        torch.testing.assert_close(weights(1e6)[row, 4:], torch.ones(8))  # plain fine-tuning
    assert weights(0.5).isfinite().all()
    sys.modules.pop("sstoken_soft_focus")
