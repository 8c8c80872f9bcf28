"""The recipes of the prior works, with a tiny model and made-up questions in the format of GSM8K."""

from __future__ import annotations

import json
import random

import pytest

pytest.importorskip("trl")
pytest.importorskip("rich")
pytest.importorskip("platformdirs")

from ..local import sentence
from .conftest import run


@pytest.fixture
def small(model_dir, tmp_path):
    """The flags of a run of seconds."""
    rng = random.Random(0)
    for split in ("train", "test"):
        rows = [
            {"question": sentence(rng, 2, 4), "answer": f"{sentence(rng, 3, 6)} <<1+1=2>> #### 2"} for _ in range(24)
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sizes = ["--steps", "2", "--samples", "12", "--clean", "6", "--held-out", "4", "--batch", "2", "--length", "200"]
    return ["--gsm8k", str(tmp_path), "--model", str(model_dir), "--output", str(tmp_path / "out"), *sizes]


@pytest.mark.parametrize(
    ("strategy", "more", "rho"),
    [
        pytest.param("rho1", [], 0.6, marks=pytest.mark.slow),
        pytest.param("token_cleaning", [], 0.6, marks=pytest.mark.slow),
        pytest.param("token_cleaning", ["--over", "sample"], 0.6, marks=pytest.mark.slow),
        pytest.param("forgetting", [], 0.7, marks=pytest.mark.slow),
    ],
)
def test_from_the_reference_to_the_figures(small, tmp_path, strategy, more, rho):
    output = run("recipes/prior_works/run.py", strategy, *small, *more)
    assert "Trained on at the end: " in output
    found = json.loads((tmp_path / "out" / strategy / "result.json").read_text())
    kept = found["kept"]
    assert kept["right"] == pytest.approx(rho, abs=0.15)
    assert kept["wrong"] == pytest.approx(rho, abs=0.15)
    assert found["held_out_loss_after"] != found["held_out_loss_before"]


@pytest.mark.slow
@pytest.mark.parametrize("over", ["sample", "data"])
def test_stages(small, tmp_path, over):
    output = run("recipes/prior_works/self_evolving.py", *small, "--parts", "2", "--over", over)
    assert "Part 2 of 2: held-out loss" in output
    assert len(json.loads((tmp_path / "out" / "self-evolving.json").read_text())["held_out_loss"]) == 2
