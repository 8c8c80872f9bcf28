"""The command line before any training."""

from __future__ import annotations

import sys

import pytest

from sstoken_plugins.cli import main


def test_without_a_command_it_helps(capsys):
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out


def test_unknown_command(capsys):
    with pytest.raises(SystemExit):
        main(["tarin"])
    assert "choose from" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "extras"), [("sft", "trl,qlora"), ("demo", "demo")])
def test_a_missing_extra_is_named(command, extras, capsys, monkeypatch):
    """As in an environment with the core alone."""
    monkeypatch.setitem(sys.modules, "trl", None)
    assert main([command]) == 1
    shown = capsys.readouterr().err
    assert f"sstoken {command} needs trl" in shown
    assert f'pip install "sstoken-plugins[{extras}]"' in shown


def test_what_is_registered_is_listed(capsys):
    assert main(["plugins"]) == 0
    shown = capsys.readouterr().out
    for name in ("sstoken", "dft", "base", "rel", "log_probs", "trl"):
        assert any(line.split()[:1] == [name] for line in shown.splitlines())
    (dft,) = (line for line in shown.splitlines() if line.startswith("dft "))
    assert "probability of the label" in dft
    assert "nothing" in dft  # what it costs
    assert "arXiv 2508.05629" in dft
    assert "Installed plugin packages: " in shown
