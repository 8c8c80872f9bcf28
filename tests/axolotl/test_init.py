"""`sstoken init --framework axolotl` writes a YAML that Axolotl trains."""

from __future__ import annotations

import json

import pytest
import yaml

from sstoken_plugins.cli import main

from .conftest import SSTOKEN, run, write


@pytest.mark.parametrize("kind", ["messages", "from_value", "pairs"])
def test_init_writes_what_trains(kind, model_dir, chats, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line)["messages"] for line in chats.read_text().splitlines()]
    if kind == "messages":
        rows = [{"chat": messages} for messages in rows]
    elif kind == "from_value":
        names = {"user": "human", "assistant": "gpt"}
        rows = [
            {"conversations": [{"from": names[each["role"]], "value": each["content"]} for each in messages]}
            for messages in rows
        ]
    else:
        rows = [{"question": messages[0]["content"], "answer": messages[1]["content"]} for messages in rows]
    data, out = write(tmp_path / "mine.jsonl", rows), tmp_path / "run.yaml"
    asked = ["init", "--framework", "axolotl", "--model", str(model_dir), "--data", str(data), "--out", str(out)]
    assert main(asked) == 0
    assert "axolotl train" in capfd.readouterr().out
    settings = yaml.safe_load(out.read_text())
    assert settings["plugins"] == [SSTOKEN]
    run("train", {**settings, "max_steps": 1, "dataset_num_proc": 1, "output_dir": str(tmp_path / "out")})
    assert "ssToken is ON" in capfd.readouterr().out
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert json.loads((tmp_path / "out" / "sstoken.json").read_text())["config"]["strategy"] == "sstoken"


def test_trls_spelling_of_an_option_is_refused(settings):
    """`--sstoken_rho=0.8` on Axolotl's command line, which would change nothing."""
    with pytest.raises(ValueError, match=r"set `rho` in the block `sstoken:`, or on the command line --sstoken__rho="):
        run("train", {**settings, "plugins": [SSTOKEN], "sstoken_rho": 0.8})
