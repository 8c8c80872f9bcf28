"""A reference under TRL: recorded by its own command, then trained with; or an adapter."""

from __future__ import annotations

import pytest
import yaml

from sstoken_plugins.store import DiskStore
from sstoken_transformers.framework import reference_flags
from sstoken_trl.record import run as record
from sstoken_trl.record import run_reference
from sstoken_trl.sft import run as train

from ..local import byte_llama, same_tokenizer
from .test_script import log_of
from .test_training import difference, weights


@pytest.fixture
def larger(model_dir, tmp_path):
    """Another model with the tokenizer of the one in training."""
    return str(same_tokenizer(model_dir, tmp_path / "larger"))


@pytest.fixture
def config(settings, tmp_path):
    path = tmp_path / "run.yaml"
    store = str(tmp_path / "reference")
    path.write_text(yaml.safe_dump({**settings, "sstoken_strategy": "rho1", "sstoken_reference_store": store}))
    return path


def test_record_then_train(config, larger, tmp_path, capsys):
    """The other model is recorded alone, over what the training will see, and then no more needed."""
    assert run_reference(["--config", str(config)], larger) == 24
    assert "Reference recorded: 24 new samples, 24 in all" in capsys.readouterr().out
    assert DiskStore(tmp_path / "reference").made_by["role"] == "reference"
    assert run_reference(["--config", str(config)], larger) == 0
    train(["--config", str(config), "--sstoken"])
    assert all(0.6 <= entry["sstoken/keep_rate"] < 0.75 for entry in log_of(tmp_path / "out"))


def test_packed_and_shuffled(config, larger, tmp_path):
    run_reference(["--config", str(config)], larger)
    train(["--config", str(config), "--sstoken", "--packing", "--max_length", "128", "--seed", "5"])
    assert all(0.6 <= entry["sstoken/keep_rate"] < 0.75 for entry in log_of(tmp_path / "out"))


def test_over_the_whole_data(config, larger, tmp_path):
    """The base is recorded by its own command too, and the threshold is that of all tokens."""
    run_reference(["--config", str(config)], larger)
    cleaning = ["--sstoken_strategy", "token_cleaning", "--sstoken_history", "recorded"]
    cleaning += ["--sstoken_history_store", str(tmp_path / "history")]
    assert record(["--config", str(config), *cleaning]) == 24
    train(["--config", str(config), "--sstoken", *cleaning, "--per_device_train_batch_size", "24", "--max_steps", "1"])
    (entry,) = log_of(tmp_path / "out")
    assert entry["sstoken/keep_rate"] == pytest.approx(0.6, abs=0.01)


def test_what_is_refused(config, settings, larger, tmp_path):
    with pytest.raises(ValueError, match="nothing was recorded yet"):
        train(["--config", str(config), "--sstoken"])
    byte_llama(tmp_path / "bytes")
    with pytest.raises(ValueError, match="has another tokenizer than"):
        run_reference(["--config", str(config)], str(tmp_path / "bytes"))
    assert not (tmp_path / "reference").exists()
    run_reference(["--config", str(config)], larger)
    with pytest.raises(ValueError, match=r"`sstoken_reference_store`: .* was made with another model"):
        run_reference(["--config", str(config)], settings["model_name_or_path"])
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match="`sstoken_reference_store` is not set"):
        run_reference(["--config", str(tmp_path / "plain.yaml")], larger)


def test_the_commands_own_flags():
    assert reference_flags(["--config", "x", "--model_name_or_path", "m"])[1] is None
    assert reference_flags(["--as", "reference", "--model=big", "--config", "x"]) == (["--config", "x"], "big")
    with pytest.raises(ValueError, match="`--model` is not set"):
        reference_flags(["--as", "reference"])
    with pytest.raises(ValueError, match="`--as` is 'teacher'"):
        reference_flags(["--as", "teacher"])


def test_an_adapter(make_trainer, adapters):
    trainer = make_trainer(sstoken_strategy="forgetting", sstoken_over="sample",
                           sstoken_reference_adapter=str(adapters[0]), max_steps=3)  # fmt: skip
    trainer.train()
    assert len([entry for entry in trainer.state.log_history if "loss" in entry]) == 3
    assert not any("sstoken_history" in name for name in trainer.model.state_dict())


def test_batch_and_accumulation_do_not_matter(make_trainer, adapters):
    """With a reference, a schedule over the whole training, and an anchor."""
    results = []
    for batch, accumulation in ((4, 1), (2, 2), (1, 4)):
        trainer = make_trainer(
            sstoken_strategy="forgetting", sstoken_over="sample", sstoken_reference_adapter=str(adapters[0]),
            sstoken_anchor="k3", per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
            optim="sgd", learning_rate=0.1, max_steps=3,
        )  # fmt: skip
        before = weights(trainer)
        trainer.train()
        results.append(weights(trainer))
    assert difference(results[0], before) > 1e-3
    assert difference(results[0], results[1]) < 1e-5
    assert difference(results[0], results[2]) < 1e-5


def test_resumed_with_its_reference_alone(make_trainer, adapters, tmp_path):
    options = {"sstoken_strategy": "forgetting", "sstoken_over": "sample", "max_steps": 4,
               "save_strategy": "steps", "save_steps": 2}  # fmt: skip
    whole = make_trainer(output_dir=tmp_path / "whole", sstoken_reference_adapter=str(adapters[0]), **options)
    whole.train()
    checkpoint = str(tmp_path / "whole" / "checkpoint-2")
    resumed = make_trainer(output_dir=tmp_path / "resumed", sstoken_reference_adapter=str(adapters[0]), **options)
    resumed.train(resume_from_checkpoint=checkpoint)
    assert difference(weights(whole), weights(resumed)) == 0
    other = make_trainer(output_dir=tmp_path / "other", sstoken_reference_adapter=str(adapters[1]), **options)
    with pytest.raises(ValueError, match="give the run the history it was started with"):
        other.train(resume_from_checkpoint=checkpoint)
