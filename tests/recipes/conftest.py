from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from ..local import byte_llama

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    return byte_llama(tmp_path_factory.mktemp("byte-llama"))


def run(*command: str, **environment: str) -> str:
    """Runs Python from the top of the checkout, as the recipes say. Returns all it printed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **environment}
    done = subprocess.run(
        [sys.executable, *command], cwd=TOP, env=env, text=True, timeout=300, capture_output=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def log_of(output: Path) -> list[dict]:
    """What the training steps logged, from the newest checkpoint."""
    newest = max(output.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in history if "loss" in entry]
