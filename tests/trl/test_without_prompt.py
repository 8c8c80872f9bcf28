"""Data without a prompt: text, and conversations that train whole. The excess loss alone decides, and it is said."""

from __future__ import annotations

import pytest
from datasets import Dataset, concatenate_datasets

from . import oracle
from .test_histories import log, selections
from .test_training import load, losses


@pytest.fixture
def texts(dataset):
    return dataset.map(lambda row: {"text": row["prompt"] + row["completion"]}, remove_columns=dataset.column_names)


@pytest.fixture
def kinds(texts, conversations, dataset):
    """Data without a prompt, and what trains them so."""
    ids = [[3 + (7 * i + j * j) % 60 for j in range(9)] for i in range(24)]
    return {
        "text": (texts, {}),
        "conversations": (conversations, {}),
        "trained whole": (dataset, {"completion_only_loss": False}),
        "all labels": (Dataset.from_dict({"input_ids": ids, "labels": ids}), {}),
        # The token that begins every sequence has none: still no prompt.
        "all labels but the first": (
            Dataset.from_dict({"input_ids": ids, "labels": [[-100, *row[1:]] for row in ids]}),
            {},
        ),
    }


KINDS = ["text", "conversations", "trained whole", "all labels", "all labels but the first"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_the_excess_loss_decides(make_trainer, model_dir, adapters, kinds, kind, packed, caplog):
    data, options = kinds[kind]
    if packed:
        options = {**options, "packing": True, "max_length": 64, "per_device_train_batch_size": 1}
    trainer = make_trainer(
        model=load(model_dir, adapters[0]), peft_config=None, train_dataset=data, max_steps=1, **options
    )
    assert "have no prompt" in caplog.text
    assert "the excess loss alone chooses their tokens" in caplog.text
    with selections() as seen:
        trainer.train()
    assert log(trainer, "without_prompt") == [1]
    assert log(trainer, "attention_kept") == [0]
    [s] = seen
    rows = [
        (s.measured.input_ids[mine].tolist(), s.measured.batch.labels[mine].tolist())
        for mine in (s.documents.ids == d for d in range(int(s.documents.ids.max()) + 1))
        if (s.documents.response & mine).any()
    ]
    # By the reference: the excess loss has all of the score, so its weight does not matter.
    expected = oracle.loss(load(model_dir, adapters[0], attention="eager"), rows, rho=0.6, gamma=1.0)
    assert losses(trainer)[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("text", "columns `prompt` and `completion`"),
        ("conversations", "With `assistant_only_loss` True only the assistant's turns train"),
        ("trained whole", "`completion_only_loss` True"),
        ("all labels", None),
    ],
)
def test_what_would_give_them_one_is_said(make_trainer, kinds, kind, advice, caplog):
    data, options = kinds[kind]
    make_trainer(train_dataset=data, **options)
    assert "All of the first 24 samples have no prompt" in caplog.text
    assert advice is None or advice in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_choose_by_is_refused(make_trainer, kinds, kind):
    data, options = kinds[kind]
    with pytest.raises(ValueError, match=r"no prompt.* their attention to it alone: .*`sstoken_gamma` above 0"):
        make_trainer(train_dataset=data, sstoken_gamma=0.0, **options)
    with pytest.raises(ValueError, match=r"no prompt.*`sstoken_first_visit` to 'base'"):
        make_trainer(train_dataset=data, sstoken_history="last_visit", **options)
    make_trainer(train_dataset=data, sstoken_strategy="trimmed", **options)  # which reads no attention


def test_refused_before_the_model_is_loaded(make_trainer, kinds):
    for kind in KINDS[:3]:
        data, options = kinds[kind]
        with pytest.raises(ValueError, match="no prompt"):
            make_trainer(model="/no/such/model", train_dataset=data, sstoken_gamma=0.0, **options)


def test_mixed_data_say_their_share(make_trainer, kinds, caplog):
    tokenised = kinds["all labels"][0]
    prompted = tokenised.map(lambda row: {"labels": [-100, -100, *row["labels"][2:]]})
    mixed = concatenate_datasets([tokenised.select(range(6)), prompted.select(range(18))])
    trainer = make_trainer(train_dataset=mixed, max_steps=6)
    assert "6 of the first 24 samples have no prompt" in caplog.text
    trainer.train()
    assert sum(log(trainer, "without_prompt")) / 6 == pytest.approx(0.25)
    assert all(each > 0 for each in log(trainer, "attention_kept"))


def test_full_fine_tuning_on_text(make_trainer, model_dir, texts):
    """The rarest of all: no adapter and no prompt; at the start nothing is known of any token."""
    trainer = make_trainer(peft_config=None, train_dataset=texts, max_steps=6)
    trainer.train()
    assert log(trainer, "rel_kept")[0] == 0
    assert log(trainer, "rel_kept")[-1] > log(trainer, "rel_dropped")[-1]


def test_wrapped_packing_where_nothing_needs_documents(make_trainer, texts, caplog):
    wrapped = {"packing": True, "packing_strategy": "wrapped", "max_length": 32, "train_dataset": texts}
    trainer = make_trainer(**wrapped, sstoken_gamma=1.0, max_steps=3)
    assert "among those of each packed row" in caplog.text
    trainer.train()
    assert log(trainer, "keep_rate")[0] == pytest.approx(0.6, abs=0.02)
    make_trainer(**wrapped, sstoken_strategy="random").train()
    with pytest.raises(ValueError, match="'wrapped', which cuts documents anywhere"):
        make_trainer(**wrapped)
