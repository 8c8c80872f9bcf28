"""`sstoken record`: the flags of the training, in its own process; killed and started again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from sstoken_plugins import Refused
from sstoken_plugins.store import DiskStore
from sstoken_trl.record import run as record
from sstoken_trl.sft import run as train

from .. import processes
from .test_script import log_of


@pytest.fixture
def config(settings, tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**settings, "sstoken_history_store": str(tmp_path / "history")}))
    return path


def test_record_then_train(config, tmp_path, capsys):
    assert record(["--config", str(config)]) == 24
    assert "History recorded: 24 new samples, 24 in all" in capsys.readouterr().out
    assert record(["--config", str(config)]) == 0
    train(["--config", str(config), "--sstoken", "--sstoken_history", "recorded", "--sstoken_history_strict"])
    first, second, *_ = log_of(tmp_path / "out")
    assert first["sstoken/history_missing"] == second["sstoken/history_missing"] == 0
    assert first["sstoken/rel_kept"] == 0 < second["sstoken/rel_kept"]


def test_full_fine_tuning_without_a_store_of_ones_own(config, settings, tmp_path, capsys):
    """Where the training would record too: in the run's output."""
    full = {
        name: value for name, value in settings.items() if name not in ("use_peft", "lora_r", "lora_target_modules")
    }
    config.write_text(yaml.safe_dump(full))
    assert record(["--config", str(config)]) == 24
    train(["--config", str(config), "--sstoken"])
    assert "History recorded: 0 new samples, 24 in all" in capsys.readouterr().out


def test_another_model_is_refused(config, tmp_path, adapters):
    record(["--config", str(config)])
    head = (tmp_path / "history" / "store.json").read_bytes()
    with pytest.raises(ValueError, match="was made with another adapter"):
        record(["--config", str(config), "--sstoken_history_adapter", str(adapters[0])])
    with pytest.raises(ValueError, match="was made with another precision"):
        record(["--config", str(config), "--bf16", "true"])
    assert (tmp_path / "history" / "store.json").read_bytes() == head


def test_a_folder_that_cannot_be_made_is_refused(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=r"`sstoken_history_store`: .*file/store cannot be made \(Not a directory\)"):
        record(["--config", str(config), "--sstoken_history_store", str(tmp_path / "file" / "store")])


def test_nothing_to_record_is_said(config):
    with pytest.raises(ValueError, match=r"Nothing to record: these options .*gamma=0"):
        record(["--config", str(config), "--sstoken_gamma", "0"])


def test_with_an_adapter_nothing_needs_to_be_recorded(config, settings):
    config.write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match=r"Nothing to record: these options .*history=auto \(base\)"):
        record(["--config", str(config)])


@pytest.mark.slow
def test_killed_and_started_again(config, tmp_path):
    """At any moment, and with two processes; what was recorded stays, and the store is sound."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "sstoken_trl.record"]
    for seconds in (8, 12):
        status, _ = processes.run(*command, "--config", config, timeout=seconds)
        assert status is None
        if (tmp_path / "history").exists():
            DiskStore(tmp_path / "history")
    status, printed = processes.run(*command, "--config", config)
    assert status == 0, printed
    assert len(DiskStore(tmp_path / "history")) == 24
