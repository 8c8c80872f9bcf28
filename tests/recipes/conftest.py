from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from .. import processes
from ..local import byte_llama


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    return byte_llama(tmp_path_factory.mktemp("byte-llama"))


def run(*command: str, **environment: str) -> str:
    """Runs Python from the top of the checkout, as the recipes say. Returns all it printed."""
    status, printed = processes.run(sys.executable, *command, ACCELERATE_USE_CPU="true", **environment)
    assert status == 0, printed[-4000:]
    return printed


def log_of(output: Path) -> list[dict]:
    """What the training steps logged, from the newest checkpoint."""
    newest = max(output.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in history if "loss" in entry]
