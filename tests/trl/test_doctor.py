"""`sstoken doctor` on what TRL users have: it says what the training then does, and loads no weights."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from sstoken_plugins.cli import main
from sstoken_trl.doctor import examine

from .. import processes
from .test_histories import selections


@pytest.fixture
def no_weights(model_dir):
    """The model's folder, for the time of a test without weights."""
    weights = model_dir / "model.safetensors"
    weights.rename(model_dir / "elsewhere")
    yield
    (model_dir / "elsewhere").rename(weights)


@pytest.fixture
def config(settings, tmp_path):
    """Writes a YAML; None removes a key."""

    def write(**changes) -> list[str]:
        values = {**settings, "sstoken": True, "lora_dropout": 0.0, **changes}
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump({name: value for name, value in values.items() if value is not None}))
        return ["--config", str(path)]

    return write


def as_json(capsys, argv) -> tuple[int, dict]:
    status = main(["doctor", *argv, "--json"])
    return status, json.loads(capsys.readouterr().out)


LAYOUTS = {
    "prompt and completion": {},
    "packed": {"packing": True, "max_length": 64},
    "cut short": {"max_length": 12},
    "conversations": {"assistant_only_loss": True},
    "tokenised": {},
    "plain text": {"sstoken_gamma": 1.0},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_counts_what_training_sees(config, make_trainer, dataset, conversations, tmp_path, layout):
    tokenised = dataset.map(
        lambda _, i: {"input_ids": [3, 4, 5, 6 + i % 30, 7], "labels": [-100, -100, 5, 6 + i % 30, 7]},
        with_indices=True, remove_columns=dataset.column_names,
    )  # fmt: skip
    data = {
        "conversations": conversations,
        "tokenised": tokenised,
        "plain text": dataset.map(lambda row: {"text": row["prompt"] + row["completion"]}).select_columns("text"),
    }.get(layout, dataset)
    data.to_json(tmp_path / "data" / "train.jsonl")
    found = examine(config(**LAYOUTS[layout]))
    assert found.healthy, found.problems

    trainer = make_trainer(train_dataset=data, max_steps=-1, num_train_epochs=1, **LAYOUTS[layout])
    with selections() as seen:
        trainer.train()
    documents = [selection.documents for selection in seen]
    assert found.data.samples == sum(int(each.ids.max()) + 1 for each in documents)
    assert found.data.response_tokens == sum(int(each.response.sum()) for each in documents)
    assert found.data.kept_tokens == sum(int(selection.kept.sum()) for selection in seen)
    assert found.data.without_prompt == (found.data.samples if layout == "plain text" else 0)
    if layout == "cut short":
        assert found.data.left_out + found.data.samples == 24


def test_what_only_the_training_knows_is_not_promised(config):
    found = examine(config(sstoken_strategy="grounded"))
    assert found.healthy, found.problems
    assert found.data.response_tokens > 0
    assert found.data.kept_tokens is None


@pytest.mark.parametrize("history", ["base", "adapter", "snapshot", "ema", "recorded", "last_visit"])
def test_it_knows_what_the_history_takes(config, make_trainer, adapters, dataset, tmp_path, history):
    options = {"sstoken_history": history}
    if history == "adapter":
        options["sstoken_history_adapter"] = str(adapters[0])
    if history == "recorded":
        options |= {"sstoken_history_store": str(tmp_path / "store"), "sstoken_history_record": True}
    found = examine(config(**options))
    assert found.healthy, found.problems
    trainer = make_trainer(max_steps=6, **options)  # an epoch
    trainer.train()
    memory = found.model.memory
    if history == "base":
        assert memory == {}
    if history == "adapter":
        weights = trainer.model.named_parameters()
        assert memory == {"device": sum(weight.nbytes for name, weight in weights if "sstoken_history" in name)}
    if history in ("snapshot", "ema"):
        assert memory == {"device": 4 * found.model.trainable}
    if history == "last_visit":
        actual = sum(tensor.nbytes for tensor in trainer.token_selector.history.state_dict().values())
        assert 0 <= memory["host"] - actual <= found.data.samples
    if history == "recorded":
        on_disk = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
        assert 0 <= on_disk - memory["disk"] < 2000  # the manifest tells the configuration
        assert found.data.recorded == 0
        assert examine(config(**options)).data.recorded == 24


def test_it_is_fine_without_weights(config, no_weights, capsys, tmp_path):
    status, found = as_json(capsys, config(sstoken_history="snapshot"))
    assert status == 0
    assert found["healthy"]
    assert found["problems"] == []
    assert found["model"]["measured"]["attention"] == "layer 1 (LlamaAttention, sdpa)"
    assert found["versions"]["trl"]["is_tested"]
    assert not (tmp_path / "out").exists()
    assert main(["doctor", *config()]) == 0
    shown = capsys.readouterr().out
    assert "24 samples, 0.0% without prompt, 0.0% without response" in shown
    assert "No problems found." in shown
    assert "\x1b" not in shown


def test_all_that_is_wrong_is_said_at_once(config, no_weights, capsys, tmp_path):
    bad = {"loss_type": "dft", "sstoken_loss": "own", "use_peft": False, "sstoken_history": "snapshot"}
    status, found = as_json(capsys, config(**bad))
    assert status == 1
    for name in ("`loss_type`", "`sstoken_loss` is 'own'", "there is no adapter"):
        assert any(name in problem for problem in found["problems"]), name
    # Options that can't be are no reason to look at nothing else.
    status, found = as_json(capsys, config(sstoken_rho=2, sstoken_gamma=-1))
    assert [problem.split("`")[1] for problem in found["problems"]] == ["sstoken_rho", "sstoken_gamma"]
    assert found["data"]["samples"] == 24
    assert found["data"]["kept_tokens"] is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sstoken": None}, "`sstoken` is False: this run trains on every token"),
        ({"sstoken_attention_layer": 7}, "`sstoken_attention_layer` is 7"),
        ({"lora_target_modules": ["nothing"]}, "TRL's trainer: Target modules nothing not found"),
        (
            {"dataset_name": "/no/such"},
            "The data: /no/such is neither a file, nor a folder, nor a data set that can be loaded: Couldn't find",
        ),
        ({"model_name_or_path": "/no/such"}, "`model_name_or_path` is '/no/such', whose configuration cannot be"),
        ({"sstoken_history": "adapter", "sstoken_history_adapter": "/no/such"}, "'/no/such', which is not a folder"),
        ({"sstoken_history": "recorded", "sstoken_history_store": "/no/such"}, "where nothing was recorded yet"),
        (
            {"assistant_only_loss": True},
            "`assistant_only_loss` is True, but the data have no conversations (their columns are prompt, completion)",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_would_stop_the_training(config, changes, problem):
    found = examine(config(**changes))
    assert [problem in each for each in found.problems] == [True], found.problems


def test_a_foreign_adapter(config, adapters, no_weights, tmp_path):
    settings = json.loads((adapters[0] / "adapter_config.json").read_text())
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "other/model"}))
    os.link(adapters[0] / "adapter_model.safetensors", foreign / "adapter_model.safetensors")
    found = examine(config(sstoken_history="adapter", sstoken_history_adapter=str(foreign)))
    assert ["was trained on 'other/model'" in problem for problem in found.problems] == [True]


def test_what_is_worth_knowing(config, dataset, tmp_path):
    rows = [*dataset, {"prompt": "w1", "completion": ""}]
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = examine(config(sstoken_history="last_visit", lora_dropout=0.1, max_steps=-1, num_train_epochs=1))
    assert found.healthy, found.problems
    assert any("The model has dropout" in note for note in found.notes)
    assert any("no sample is seen twice" in note for note in found.notes)


def test_full_fine_tuning_says_what_will_be_recorded(config, make_trainer, tmp_path):
    """Before there is a folder; and as much as the run then takes."""
    full = {"use_peft": None, "lora_r": None, "lora_target_modules": None, "lora_dropout": None}
    found = examine(config(**full))
    assert found.healthy, found.problems
    assert "history=auto (start model, recorded)" in found.selection
    assert any("recorded before the first step" in note for note in found.notes)
    assert not (tmp_path / "out").exists()
    make_trainer(peft_config=None).train()
    [store] = (tmp_path / "out" / "_sstoken-history").iterdir()
    assert (
        0 <= sum(path.stat().st_size for path in store.iterdir()) - found.model.memory["disk"] < 2000
    )  # the manifest tells the configuration
    assert "history=auto (base)" in examine(config()).selection


@pytest.mark.parametrize(("changes", "advice"), [({"completion_only_loss": False}, "`completion_only_loss` True")])
def test_data_without_a_prompt(config, changes, advice):
    found = examine(config(**changes))
    assert found.healthy, found.problems
    assert found.data.without_prompt == found.data.samples
    [note] = [note for note in found.notes if "All of 24 samples have no prompt" in note]
    assert advice in note
    assert any("alone" in problem for problem in examine(config(**changes, sstoken_gamma=0.0)).problems)


@pytest.mark.parametrize("argv", [[], ["no-such.yaml"], ["--sstoken_roh", "1"], ["--help-me"]], ids=str)
def test_a_wrong_command_line(argv, capsys):
    try:
        status = main(["doctor", *argv])
    except SystemExit as ending:
        status = ending.code
    assert status == 2
    printed = capsys.readouterr().err
    assert "sstoken doctor" in printed
    assert "Traceback" not in printed


def test_its_standard_output_is_the_answer_alone(config):
    """Whatever the libraries print on the way."""
    status, printed = processes.run(
        "/bin/sh", "-c", 'exec "$@" 2>/dev/null', "sh", sys.executable, "-m", "sstoken_plugins", "doctor",
        Path(config()[1]), "--json",
    )  # fmt: skip
    assert status == 0
    assert json.loads(printed)["framework"] == "TRL"


def test_forecast(config, capsys):
    """What the method would do, with the model's weights."""
    status, found = as_json(capsys, [*config(sstoken_rho=0.5, sstoken_gamma=0.5), "--forecast", "6"])
    assert status == 0, found["problems"]
    seen = found["forecast"]
    assert seen["samples"] == 6
    assert 0.5 <= seen["trained_tokens"] / seen["response_tokens"] < 0.8
    assert (seen["lowest_weight"], seen["highest_weight"]) == (0, 1)
    assert any("is 0 everywhere" in note for note in found["notes"])
    status, found = as_json(capsys, [*config(sstoken_strategy="dft"), "--forecast", "6"])
    assert found["forecast"]["trained_tokens"] == found["forecast"]["response_tokens"]
    assert 0 < found["forecast"]["mean_weight"] < 0.1  # the probability of a token
    status, found = as_json(capsys, [*config(sstoken_strategy="trimmed"), "--forecast", "6"])
    seen = found["forecast"]
    assert seen["trained_tokens"] + seen["noise_tokens"] == seen["response_tokens"]
    assert main(["doctor", *config(), "--forecast", "4"]) == 0
    assert "at the first step, " in capsys.readouterr().out
    assert main(["doctor", *config(), "--forecast", "many"]) == 2
    assert "`--forecast` is 'many': set it to a number of samples" in capsys.readouterr().err
