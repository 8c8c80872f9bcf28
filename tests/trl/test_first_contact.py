"""A new user's own file, and what the command line says to them."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

from sstoken_plugins import Refused
from sstoken_plugins.cli import main
from sstoken_trl.sft import run

from .. import processes

RENAMES = "question=prompt,answer=completion"


@pytest.fixture
def mine(dataset, tmp_path):
    """Questions and answers of a user, in a file of each type."""
    rows = dataset.rename_columns({"prompt": "question", "completion": "answer"})
    rows.to_json(tmp_path / "mine.jsonl")
    rows.to_csv(tmp_path / "mine.csv")
    rows.to_parquet(tmp_path / "mine.parquet")
    (tmp_path / "folder").mkdir()
    rows.to_json(tmp_path / "folder" / "train.jsonl")
    rows.save_to_disk(tmp_path / "saved")
    return tmp_path


@pytest.fixture
def flags(settings, tmp_path):
    """A YAML without data."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**settings, "dataset_name": None, "sstoken": True}))
    return [str(path)]


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.csv", "mine.parquet", "folder", "saved"])
def test_ones_own_data_of_any_type(flags, mine, name):
    """The doctor reads them as the training does."""
    from sstoken_transformers import files

    rows = files.renamed(files.load(str(mine / name), "train"), files.parse_columns(RENAMES), name)
    assert rows.column_names == ["prompt", "completion"]
    assert len(rows) == 24


def test_the_same_flags_train_record_and_diagnose(flags, mine, tmp_path, capsys):
    data = ["--data", str(mine / "mine.jsonl"), "--columns", RENAMES]
    assert main(["doctor", *flags, *data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["samples"] == 24
    run([*flags, *data, "--max_steps", "1"])
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "The columns are question, answer; expected prompt and completion, or messages: rename them with "),
        (["--columns", "query=prompt"], "`columns` renames query, but the columns of "),
        (["--columns", "question"], "`columns` is 'question': write the data's own columns first"),
        (["--columns", "question=answer"], "would give two columns of "),
        (["--split", "validation"], "has no split 'validation'; it has 'train'."),
        (["--columns", RENAMES, "--eval_strategy", "steps"], "has no split 'test'; it has 'train'."),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl does not exist."),
        (["--sstoken_roh", "1"], "`--sstoken_roh` is not a flag of `sstoken sft`: did you mean `--sstoken_rho`?"),
        (["--seed"], "argument --seed: expected one argument"),
        (["--max_steps", "many"], "argument --max_steps/--max-steps: invalid"),
        (["--model", "/no/such"], "configuration cannot be loaded: there is no such folder."),
        (["--columns", RENAMES, "--assistant_only_loss"], "`assistant_only_loss` is True, but the data have no conv"),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, list) else "",
)
def test_refusals_are_one_sentence_before_anything_is_loaded(flags, mine, more, message, monkeypatch):
    monkeypatch.setattr("transformers.modeling_utils.PreTrainedModel.from_pretrained", None)  # would be a TypeError
    with pytest.raises(Refused) as refusal:
        run([*flags, "--data", str(mine / "mine.jsonl"), *more])
    assert message in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_misspelt_key_of_the_yaml(settings, tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**settings, "sstoken": True, "sstoken_roh": 0.5}))
    for command in ("sft", "record", "doctor"):
        assert main([command, str(path)]) == 2
        error = capsys.readouterr().err
        assert "`sstoken_roh` is not a key of `sstoken sft`: did you mean `sstoken_rho`?" in error
        assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("wrong", [["--sstoken_rho", "60"], ["--bf16", "true", "--fp16", "true"]], ids=" ".join)
def test_a_misspelt_flag_is_named_beside_a_wrong_value(flags, wrong):
    with pytest.raises(Refused) as refusal:
        run([*flags, "--sstoken_gama", "1", *wrong])
    misspelt, value = str(refusal.value).splitlines()
    assert misspelt == "`--sstoken_gama` is not a flag of `sstoken sft`: did you mean `--sstoken_gamma`?"
    assert wrong[0].strip("-") in value


def test_without_arguments_and_with_help(capsys):
    for command in ("sft", "record"):
        with pytest.raises(SystemExit) as ending:
            main([command])
        assert ending.value.code == 2
        assert capsys.readouterr().err.startswith(f"usage: sstoken {command} ")
    assert main(["sft", "--help"]) == 0
    ours = capsys.readouterr().out
    assert ours.index("--sstoken ") < 1500
    assert "--learning_rate LEARNING_RATE" not in ours
    assert main(["sft", "--help", "--sstoken_strategy", "trimmed"]) == 0
    assert "--sstoken_trim FLOAT" in capsys.readouterr().out
    assert main(["sft", "--help-all"]) == 0
    assert "--learning_rate" in capsys.readouterr().out


def test_a_template_that_does_not_mark_the_assistant(make_trainer, conversations, tmp_path):
    from ..local import word_llama

    plain = word_llama(tmp_path / "plain", "{% for message in messages %}{{ message.content }} {% endfor %}")
    with pytest.raises(Refused, match="does not mark what the assistant says"):
        make_trainer(model=str(plain), train_dataset=conversations, assistant_only_loss=True)


@pytest.mark.slow
@pytest.mark.parametrize("launch", [["--num_processes", "1"], ["--multi_gpu", "--num_processes", "2"]], ids=len)
def test_under_the_launcher_the_last_line_is_the_reason(settings, tmp_path, launch):
    """The process that the launcher starts refuses what is not known before."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**settings, "sstoken": True, "sstoken_attention_layer": 7}))
    for command in ("sft", "record"):
        store = ["--sstoken_history_store", str(tmp_path / "store")] if command == "record" else []
        status, printed = processes.run(sys.executable, "-m", "sstoken_plugins", command, str(path), *launch, *store)
        assert status == 2, printed
        last = printed.strip().splitlines()[-1]
        assert last.startswith(f"sstoken {command}: `sstoken_attention_layer` is 7"), printed
        assert "Traceback" not in printed
        assert printed.count("`sstoken_attention_layer` is 7") == 1


def test_init_writes_what_trains(model_dir, mine, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "first.yaml"
    asked = ["init", "--framework", "trl", "--model", str(model_dir), "--data", str(mine / "mine.jsonl")]
    assert main([*asked, "--out", str(out)]) == 0
    assert "sstoken sft" in capsys.readouterr().out
    text = out.read_text()
    assert "worse than plain fine-tuning" in text  # which stands beside the method
    assert yaml.safe_load(text)["columns"] == RENAMES
    run([str(out), "--max_steps", "1", "--lora_r", "2"])
    assert (tmp_path / "outputs" / "first" / "adapter_model.safetensors").is_file()
    assert main([*asked, "--out", str(out)]) == 2
    assert "exists: name another with --out" in capsys.readouterr().err


def test_init_asks_where_it_can(model_dir, conversations, tmp_path, monkeypatch, capsys):
    conversations.to_json(tmp_path / "chats.jsonl")
    answers = iter(["trl", str(model_dir), str(tmp_path / "chats.jsonl")])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    out = tmp_path / "run.yaml"
    assert main(["init", "--method", "trimmed", "--out", str(out)]) == 0
    settings = yaml.safe_load(out.read_text())
    assert settings["assistant_only_loss"] is True
    assert settings["sstoken_strategy"] == "trimmed"
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    for flags, message in (
        ([], "`--model` is not set: name it."),
        (["--model", "m", "--data", "nowhere.csv"], "nowhere.csv does not exist."),
        (["--method", "trimed"], "`strategy` is 'trimed', which is not registered"),
    ):
        assert main(["init", "--framework", "trl", *flags, "--out", str(tmp_path / "other.yaml")]) == 2
        assert message in capsys.readouterr().err


def test_the_first_and_the_last_line(make_trainer, tmp_path, capsys):
    trainer = make_trainer(sstoken_report_steps=2, sstoken_report_samples=4, max_steps=2)
    first = " ".join(capsys.readouterr().out.split())
    assert "What to expect of 'sstoken': worse than plain fine-tuning" in first
    trainer.train()
    last = capsys.readouterr().out.strip().splitlines()[-1]
    out = tmp_path / "out"
    assert last == f"ssToken: selection in {out / 'sstoken.json'}; report in {out / '_sstoken-report' / 'index.html'}"
    assert json.loads((out / "sstoken.json").read_text())["config"]["strategy"] == "sstoken"


def test_the_model_card_names_the_method(make_trainer, tmp_path):
    trainer = make_trainer(sstoken_rho=0.5, max_steps=1)
    trainer.train()
    trainer.create_model_card(tags="mine")
    trainer.create_model_card(tags="mine")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.count("## Token selection") == 1
    assert "method `sstoken` of sstoken-plugins (arXiv 2510.18250)" in card
    assert "| `rho` | 0.5 |" in card
    assert "- sstoken-plugins" in card
    assert "- mine" in card
    assert str(tmp_path) not in card.split("## Token selection")[1]
