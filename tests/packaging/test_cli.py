"""The command line before any training."""

from __future__ import annotations

import importlib.util

import pytest

from sstoken_plugins.cli import main


def test_without_a_command_it_helps(capsys):
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out


def test_unknown_command(capsys):
    with pytest.raises(SystemExit):
        main(["tarin"])
    assert "choose from" in capsys.readouterr().err


def test_a_missing_extra_is_named(capsys, monkeypatch):
    """As in an environment with the core alone."""
    real = importlib.import_module

    def without_trl(name, *args):
        if name == "sstoken_trl.sft":
            raise ModuleNotFoundError("No module named 'trl'", name="trl")
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without_trl)
    assert main(["sft"]) == 1
    assert 'pip install "sstoken-plugins[trl,qlora]"' in capsys.readouterr().err
