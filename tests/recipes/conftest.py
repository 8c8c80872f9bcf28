from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from .. import processes
from ..local import byte_llama

TESTBED = processes.TOP / "recipes" / "testbed"
SHARED = processes.TOP / "recipes" / "evidence"
MODULES = [path.stem for folder in (TESTBED, SHARED) for path in folder.glob("*.py")]


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


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    """The recipe's modules can be imported as its scripts do it; afterwards they are gone, and so is their plugin."""
    shadowed = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SHARED))
        patch.syspath_prepend(str(TESTBED))
        yield tmp_path_factory.mktemp("testbed")
    from sstoken_plugins.registry import plugin_manager

    if (oracle := sys.modules.get("oracle")) and plugin_manager().is_registered(oracle):
        plugin_manager().unregister(oracle)
    logging.getLogger("sstoken_plugins").setLevel(logging.NOTSET)
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(shadowed)


def made_up(
    arm: str, seed: int, new: str, old: str = "11", flaw: str = "none", auc: float = 0.9, **more: object
) -> dict[str, object]:
    """A row of the testbed's table."""
    return {
        "regime": "many", "flaw": flaw, "arm": arm, "seed": seed, "role": "final", "options": "{}",
        "learning_rate": 1e-3, "new": "b" + new, "old": "b" + old, "skill": new.count("1") / len(new),
        "retention": old.count("1") / len(old), "loss": 1.0, "loss_tempered": 1.0, "auc_rel": auc, "code": "c",
        "base": "b", "device": "cpu", "seconds_cpu": 1.0, "spoiled": 0.0, **more,
    }  # fmt: skip
