"""The commands of README and documentation, run as a reader would, with a tiny model and a few rows."""

from __future__ import annotations

import csv
import importlib.util
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytest.importorskip("jinja2")
pytest.importorskip("datasketch")

import yaml
from peft import LoraConfig
from transformers import AutoTokenizer

from sstoken_plugins.cli import main
from sstoken_transformers.framework import reference_flags

from ..local import byte_llama, learned_adapter
from .blocks import ROOT, blocks, commands

if importlib.util.find_spec("axolotl") is not None:
    pytest.skip("the commands of TRL run in the environment of TRL", allow_module_level=True)

CHATS = ROOT / "recipes" / "data" / "chats.jsonl"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}</s>{% endgeneration %}{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ELSEWHERE = {
    "pip": "`tests/packaging` installs the wheel",
    "make": "its targets run these tests",
    "python": "`tests/axolotl` and `tests/recipes` run Axolotl and the study",
    "accelerate": "`tests/audit/test_processes.py` runs several processes",
    "sstoken init": "asks for answers, which `tests/trl/test_first_contact.py` gives",
    "axolotl.yaml": "`tests/axolotl` runs the same commands with Axolotl",
}
"""What is not run here, and where it is."""
IN_SMALL: dict[str, list[str]] = {
    "--load_in_4bit": [],  # other tests train in 4 bits; that takes another tiny model
    "Qwen/Qwen3-8B": ["model"],
    "Qwen/Qwen3-0.6B": ["model"],
    "trl-lib/Capybara": ["hub"],
}
"""What a reader has, and what is here in its place."""
ON_THIS_MACHINE = {
    "sft": ["--use_cpu", "--bf16=false", "--max_steps=2", "--report_to=none"],
    "record": ["--use_cpu", "--bf16=false", "--report_to=none"],
    "inspect": ["--use_cpu", "--bf16=false", "--n_samples=4"],
    "compare": ["--use_cpu", "--bf16=false", "--n_samples=4"],
    "init": ["--out", "first.yaml"],
}
FOUND_SOMETHING = {"doctor": (0, 1), "audit": (0, 3)}


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Path:
    """The folder of a reader: a model, data, a YAML and a checkpoint."""
    folder: Path = tmp_path_factory.mktemp("reader")
    byte_llama(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder / "model")
    rows = "\n".join(CHATS.read_text(encoding="utf-8").splitlines()[:8])
    (folder / "hub").mkdir()
    for path in ("chats.jsonl", "hub/train.jsonl"):
        (folder / path).write_text(rows, encoding="utf-8")
    for path in ("mine.csv", "data.csv"):
        with open(folder / path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(
                [["question", "answer"], *[[f"What is {i} and 1?", f"It is {i + 1}."] for i in range(8)]]
            )
    lora = {"use_peft": True, "lora_r": 4, "lora_dropout": 0.0, "lora_target_modules": "all-linear"}
    learned_adapter(
        folder / "model", LoraConfig(r=4, target_modules=["q_proj"]), folder / "out" / "checkpoint-100", seed=1
    )
    settings = {"model_name_or_path": "model", "data": "chats.jsonl", "assistant_only_loss": True, "max_steps": 2}
    (folder / "run.yaml").write_text(yaml.safe_dump({**settings, **lora, "use_cpu": True, "bf16": False}))
    return folder


def run(command: str, arguments: list[str]) -> None:
    """As `sstoken`, but in this process where it would start others."""
    if command == "sft":
        from sstoken_trl.sft import run as train

        train(arguments)
    elif command == "record":
        from sstoken_trl.record import run as record
        from sstoken_trl.record import run_reference

        rest, reference = reference_flags(arguments)
        record(rest) if reference is None else run_reference(rest, reference)
    else:
        assert main([command, *arguments]) in FOUND_SOMETHING.get(command, (0,))


def prepare(arguments: list[str]) -> None:
    """What earlier commands would have left."""
    for argument in arguments:
        if argument.endswith("sstoken-inspect.parquet") and not Path(argument).exists():
            run("inspect", ["--config", "run.yaml", "--n_samples=2", "--out", str(Path(argument).parent)])
        elif argument == "OUTPUT_DIR" and not Path(argument).exists():
            run("sft", ["run.yaml", "--sstoken", "--sstoken_report_steps=2", "--output_dir", argument])


def documented() -> list[Any]:
    """The commands that are run here; of the others it is known where."""
    found = []
    for block in blocks("sh"):
        for words in commands(block):
            if {words[0], shlex.join(words), *words} & ELSEWHERE.keys():
                continue
            assert words[0] == "sstoken", f"{block}: {words[0]} is run nowhere"
            found.append(pytest.param(words[1], words[2:], id=f"{block} {shlex.join(words[1:])[:50]}"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("command", "arguments"), documented())
def test_a_documented_command_runs(command, arguments, reader, monkeypatch, capsys):
    monkeypatch.chdir(reader)
    prepare(arguments)
    small = [part for word in arguments for part in IN_SMALL.get(word, [word])]
    with_files = any(each.endswith(".parquet") for each in small)
    run(command, [*small, *([] if with_files else ON_THIS_MACHINE.get(command, []))])


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md"])
def test_the_documented_training_in_python_runs(page, reader, monkeypatch):
    """With the reader's own data, and as few steps as there are."""
    from datasets import Dataset
    from transformers import TrainingArguments

    import sstoken_trl

    monkeypatch.chdir(reader)
    (block,) = (each for each in blocks("python") if each.page == ROOT / page and "SSTokenSFTTrainer(" in each.text)
    rows = Dataset.from_list([{"prompt": f"What is {i} and 1?", "completion": f" {i + 1}."} for i in range(4)])
    text = block.text
    for name, small in IN_SMALL.items():
        text = text.replace(f'"{name}"', f'"{small[0]}"' if small else f'"{name}"')
    text = text.replace('output_dir="out"', 'output_dir="of-python", use_cpu=True, bf16=False, report_to=[]')
    names = {"dataset": rows, "__name__": "documented"}
    exec(compile(text, str(block), "exec", dont_inherit=True), names)
    assert isinstance(names["trainer"], sstoken_trl.SSTokenSFTTrainer)
    assert isinstance(names["trainer"].args, TrainingArguments)
    assert names["trainer"].state.global_step == 3
