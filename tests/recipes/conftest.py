from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from sstoken_plugins.registry import plugin_manager

from .. import processes
from ..local import byte_llama

RECIPES = processes.TOP / "recipes"


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


@contextlib.contextmanager
def recipe(name: str) -> Iterator[pytest.MonkeyPatch]:
    """Its modules can be imported as its scripts do it; afterwards they are gone, and so are their plugins."""
    folders = [RECIPES / "evidence", RECIPES / name]
    modules = [path.stem for folder in folders for path in folder.glob("*.py")]
    shadowed = {module: sys.modules.pop(module) for module in modules if module in sys.modules}
    with pytest.MonkeyPatch.context() as patch:
        for folder in folders:
            patch.syspath_prepend(str(folder))
        yield patch
    for module in modules:
        plugin = sys.modules.pop(module, None)
        if plugin is not None and plugin_manager().is_registered(plugin):
            plugin_manager().unregister(plugin)
    sys.modules.update(shadowed)
    logging.getLogger("sstoken_plugins").setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    with recipe("testbed"):
        yield tmp_path_factory.mktemp("testbed")


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
