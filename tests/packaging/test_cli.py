"""The command line before any training."""

from __future__ import annotations

import json
import sys

import pytest

from sstoken_plugins.cli import main
from sstoken_plugins.installing import how_to_install


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
    assert how_to_install(extras) in shown


def test_what_is_missing_is_installed_from_where_this_came(monkeypatch, tmp_path):
    """From a checkout that was installed with `pip install -e`, and else by name."""

    class Installed:
        url: str | None = None

        def read_text(self, name):
            assert name == "direct_url.json"
            return self.url

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Installed())
    assert how_to_install("trl") == 'pip install "sstoken-plugins[trl]"'
    Installed.url = json.dumps({"url": (tmp_path / "a b").as_uri(), "dir_info": {"editable": True}})
    assert how_to_install("trl") == f'pip install -e "{tmp_path}/a b[trl]"'


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
