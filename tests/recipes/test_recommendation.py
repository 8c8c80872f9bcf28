"""Weights by information gain."""

from __future__ import annotations

import importlib.util
import json
import math

import pytest

pytest.importorskip("trl")
pytest.importorskip("rich")

from .. import processes
from .conftest import run

spec = importlib.util.spec_from_file_location(
    "information_gain", processes.TOP / "recipes/recommendation/information_gain.py"
)
information_gain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(information_gain)


def test_a_token_gains_what_it_tells_of_the_item():
    items = [(1, 2, 3, 0), (1, 2, 4, 0), (1, 2, 4, 0), (5, 6, 7, 0)]
    gains = information_gain.information_gain(items)
    whole = -sum(n / 4 * math.log(n / 4) for n in (1, 2, 1))
    begun = -sum(n / 3 * math.log(n / 3) for n in (1, 2))
    assert gains[1, 2, 3, 0] == pytest.approx([whole - begun, 0, begun, 0])
    assert gains[5, 6, 7, 0] == pytest.approx([whole, 0, 0, 0])
    assert information_gain.weights(items, 0.1)[1] == [1, 0.1, 1, 0.1]


@pytest.mark.slow
def test_two_trainings(model_dir, tmp_path):
    sizes = ["--rows", "12", "--held-out", "4", "--steps", "2", "--batch", "2"]
    printed = run("recipes/recommendation/run.py", "--model", str(model_dir), "--output", str(tmp_path), *sizes)
    assert "Named rightly: " in printed
    numbers = [json.loads(line) for line in (tmp_path / "weights.jsonl").read_text().splitlines()]
    assert {number for each in numbers for number in each} == {0.1, 1.0}
    assert json.loads((tmp_path / "result.json").read_text()).keys() == {"plain", "information gain"}
