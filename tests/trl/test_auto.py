"""`history: auto`, the default: the model that training starts from, whatever trains."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from . import oracle
from .test_histories import by_document, log, selections
from .test_training import difference, load, losses, weights

FULL = {"peft_config": None}


def test_with_an_adapter_it_is_base(make_trainer, capsys):
    auto, base = make_trainer(), make_trainer(sstoken_history="base")
    assert "history=auto (base)" in capsys.readouterr().out
    auto.train()
    base.train()
    assert losses(auto) == losses(base)
    assert difference(weights(auto), weights(base)) == 0
    assert (
        auto.token_selector.describe() == base.token_selector.describe()
    )  # each resumes from the other's checkpoints


@pytest.mark.parametrize("layout", ["padded", "packed", "padding_free"])
def test_full_fine_tuning_equals_the_reference(make_trainer, model_dir, dataset, layout):
    """The first step by its loss, and the third by every token: compared with the model as it was at the start."""
    options = {
        "packed": {"packing": True, "max_length": 128, "per_device_train_batch_size": 1},
        "padding_free": {"padding_free": True, "max_length": None},
    }.get(layout, {})
    data = dataset.select(range(4)) if layout == "padded" else dataset
    trainer = make_trainer(**FULL, train_dataset=data, max_steps=3, **options)
    states = []
    step_end = trainer.token_selector.step_end

    def kept(*args):
        states.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
        step_end(*args)

    trainer.token_selector.step_end = kept
    with selections() as seen:
        trainer.train()
    start = load(model_dir, attention="eager")
    first = [each for each in seen if each.measured.progress.step == 0]
    rows = [
        (s.measured.input_ids[s.documents.ids == d].tolist(), s.measured.batch.labels[s.documents.ids == d].tolist())
        for s in first
        for d in range(int(s.documents.ids.max()) + 1)
        if (s.documents.response & (s.documents.ids == d)).any()
    ]
    assert losses(trainer)[0] == pytest.approx(oracle.loss(start, rows, 0.6, 0.5, history=start), abs=1e-5)

    model = load(model_dir, attention="eager")
    model.load_state_dict(states[1])
    last = [each for each in seen if each.measured.progress.step == 2]
    checked = 0
    for s in last:
        for d in range(int(s.documents.ids.max()) + 1):
            mine = s.documents.ids == d
            ids, labels = s.measured.input_ids[mine].tolist(), s.measured.batch.labels[mine].tolist()
            response, _, scores = oracle.sample_scores(model, ids, labels, 0.5, history=start)
            expected = {response[i] for i in oracle.keep(scores, 0.6)}
            assert {i for i, k in enumerate(s.kept[mine].tolist()) if k} == expected
            checked += len(response)
    assert checked > 20
    assert log(trainer, "history_missing") == [0] * 3


def test_recorded_once(make_trainer, tmp_path, capsys):
    make_trainer(**FULL).train()
    assert "History recorded: 24 new samples, 24 in all" in (out := capsys.readouterr().out)
    assert "MB on disk" in out
    assert "history=auto (start model, recorded)" in out
    make_trainer(**FULL).train()
    assert "History recorded: 0 new samples, 24 in all" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "_sstoken-history").iterdir())) == 1


def test_a_folder_of_ones_own(make_trainer, tmp_path):
    options = {"sstoken_history_store": str(tmp_path / "store")}
    make_trainer(**FULL, **options).train()
    assert (tmp_path / "store" / "store.json").is_file()
    assert not (tmp_path / "out" / "_sstoken-history").exists()
    make_trainer(**FULL, sstoken_history="recorded", sstoken_history_strict=True, **options).train()


def test_another_model_has_a_store_of_its_own(make_trainer, model_dir, tmp_path):
    make_trainer(**FULL).train()
    model = load(model_dir)
    model.lm_head.weight.data += 0.1
    model.save_pretrained(tmp_path / "other")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(model_dir / name, tmp_path / "other")
    make_trainer(**FULL, model=str(tmp_path / "other")).train()
    assert len(list((tmp_path / "out" / "_sstoken-history").iterdir())) == 2


SAVING = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "warmup_steps": 2, **FULL}


def test_resuming_continues_exactly_and_records_nothing(make_trainer, tmp_path, capsys):
    whole = make_trainer(**SAVING)
    whole.train()
    capsys.readouterr()
    resumed = make_trainer(**SAVING)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    assert "History recorded: 0 new samples" in capsys.readouterr().out
    assert losses(whole)[4:] == losses(resumed)[4:]
    assert difference(weights(whole), weights(resumed)) == 0


def test_resuming_needs_the_store_and_the_model_it_began_with(make_trainer, model_dir, tmp_path):
    make_trainer(**SAVING).train()
    checkpoint = tmp_path / "out" / "checkpoint-4"
    with pytest.raises(ValueError, match=r"a run that started from another model: .*`resume_from_checkpoint` alone"):
        make_trainer(**{**SAVING, "model": str(checkpoint)}).train(resume_from_checkpoint=str(checkpoint))
    shutil.rmtree(tmp_path / "out" / "_sstoken-history")
    with pytest.raises(ValueError, match=r"what the model said before the first step is gone: .*`sstoken record`"):
        make_trainer(**SAVING).train(resume_from_checkpoint=str(checkpoint))
    make_trainer(**SAVING).record_history()  # as `sstoken record` does
    make_trainer(**SAVING).train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.parametrize(
    "changes", [{"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"}, {"bias": "lora_only"}], ids=str
)
def test_adapters_that_move_the_base(make_trainer, lora, caplog, changes):
    """What the whole model says at the start is what counts: the excess loss begins at 0, and grows."""
    if changes.get("bias"):
        changes = {**changes, "bias": "all"}
    trainer = make_trainer(peft_config=replace(lora, **changes), max_steps=6)
    assert trainer.token_selector.history.decided == "start model, recorded"
    assert "the adapter moves or trains parameters of the base model" in caplog.text
    trainer.train()
    assert log(trainer, "rel_kept")[0] == 0
    assert log(trainer, "rel_kept")[-1] > 0


def test_norms_in_training_beside_the_adapter(make_trainer, model_dir, lora):
    from peft import get_peft_model

    model = get_peft_model(load(model_dir), lora)
    model.base_model.model.model.norm.weight.requires_grad_(True)
    trainer = make_trainer(model=model, peft_config=None)
    trainer.train()
    assert trainer.token_selector.history.decided == "start model, recorded"


def test_a_stream_is_refused_by_name(make_trainer, dataset):
    stream = dataset.to_iterable_dataset()
    with pytest.raises(ValueError, match=r"`sstoken_history` is 'auto', which in full .*a stream.*'last_visit'"):
        make_trainer(**FULL, model="/no/such/model", train_dataset=stream)
    make_trainer(**FULL, train_dataset=stream, sstoken_history="last_visit").train()
    make_trainer(train_dataset=stream).train()  # with an adapter, nothing is recorded


def test_the_checkpoint_says_what_was_decided(make_trainer, tmp_path):
    make_trainer(save_strategy="steps", save_steps=2).train()
    state = json.loads((tmp_path / "out" / "checkpoint-2" / "sstoken.json").read_text())
    assert state["config"]["history"] == "base"
    assert state["history"] == {}


def test_data_of_other_kinds(make_trainer, conversations):
    """Multi-turn chats, and text without any prompt."""
    make_trainer(**FULL, train_dataset=conversations, assistant_only_loss=True).train()


def test_what_was_recorded_does_not_depend_on_the_order(make_trainer, dataset):
    with selections() as seen:
        make_trainer(**FULL, max_steps=6).train()
        make_trainer(**FULL, max_steps=6, train_dataset=dataset.shuffle(seed=1)).train()
    found = by_document(seen)
    assert all(rel == 0 for (step, _), (_, values) in found.items() if step == 0 for rel in values)


def test_random_numbers_are_those_of_a_run_without(make_trainer):
    """A recording before the training changes nothing of what follows."""
    drawn = []
    for _ in range(2):  # the second finds everything recorded
        trainer = make_trainer(**FULL)
        trainer.train()
        drawn.append((losses(trainer), torch.rand(1).item()))
    assert drawn[0] == drawn[1]


def test_looked_at_before_and_at_a_checkpoint(make_trainer, model_dir, dataset, tmp_path):
    """Before the first step the model is its own history; at a checkpoint that is what was recorded."""
    from sstoken_transformers.framework import Look
    from sstoken_trl.inspection import looking

    make_trainer(**SAVING).train()
    dataset.to_json(tmp_path / "data.jsonl")

    def rel(model, adapter=None) -> float:
        argv = ["--model", str(model), "--data", str(tmp_path / "data.jsonl"), "--use_cpu", "true"]
        with looking(argv, Look(8, adapter, str(tmp_path / "look"))) as looked:
            trainer = looked.trainer
            assert looked.asked_for.history == "auto"
            batch = next(iter(trainer.get_train_dataloader()))
            found = trainer.token_selector.inspect(trainer.model, batch, 4)
            assert (found.measured["history"][found.documents.response] != 0).all()
            return found.signals["rel"][found.documents.response].abs().max().item()

    checkpoint = tmp_path / "out" / "checkpoint-4"
    assert rel(model_dir) == 0
    assert rel(checkpoint) == rel(model_dir, str(checkpoint)) > 0.01
    shutil.rmtree(tmp_path / "out" / "_sstoken-history")
    with pytest.raises(ValueError, match="was trained in full, and what the model said before the first step is gone"):
        rel(checkpoint)
