"""Rows are tokenised as TRL does it, and what cannot be read is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sstoken_audit import AuditError, audit
from sstoken_audit.data import open_data
from sstoken_audit.formats import Format, Renderer
from sstoken_audit.passes import with_prompt_of, without_prompt

from .conftest import pairs, sample


def turn(role, content):
    return {"role": role, "content": content}


TEXT = [{"prompt": f"{q} ", "completion": a} for q, a in pairs(6, seed=1)]
CHAT = [{"prompt": [turn("user", q)], "completion": [turn("assistant", a)]} for q, a in pairs(6, seed=2)]
TALK = [
    {"messages": [turn("user", q), turn("assistant", a), turn("user", a), turn("assistant", q)]}
    for q, a in pairs(6, seed=3)
]


def rendered(rows, tokenizer, max_length=None):
    source = open_data(rows)
    form = Format(source)
    renderer = Renderer(tokenizer, form.kind, max_length)
    return [renderer.tokens(form.read(source.row(i), i)) for i in range(len(source))]


@pytest.mark.parametrize("max_length", [None, 12])
@pytest.mark.parametrize("rows", [TEXT, CHAT, TALK], ids=["text", "prompt and completion", "messages"])
def test_tokens_are_those_of_trl(rows, max_length, model_dir, tokenizer, tmp_path):
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    args = trl.SFTConfig(
        output_dir=str(tmp_path), bf16=False, use_cpu=True, report_to=[], max_length=max_length,
        assistant_only_loss="messages" in rows[0],
    )  # fmt: skip
    trainer = trl.SFTTrainer(str(model_dir), args, train_dataset=Dataset.from_list(rows))
    batches = [trainer.data_collator([row]) for row in trainer.train_dataset]
    ours = [one for one in rendered(rows, tokenizer, max_length) if one.response.any()]
    assert len(ours) == len(batches)
    for one, batch in zip(ours, batches, strict=True):
        assert one.ids.tolist() == batch["input_ids"][0].tolist()
        assert one.response[1:].tolist() == (batch["labels"][0][1:] != -100).tolist()


def test_questions_and_answers_go_into_the_chat_template(tokenizer):
    made = [{"question": q, "answer": a} for q, a in pairs(3, seed=2)]
    chat = [{"prompt": [turn("user", q)], "completion": [turn("assistant", a)]} for q, a in pairs(3, seed=2)]
    for one, other in zip(rendered(made, tokenizer), rendered(chat, tokenizer), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.response.tolist() == other.response.tolist()


def test_an_exchanged_conversation_keeps_its_answers(tokenizer):
    one, other = rendered(TALK, tokenizer)[:2]
    mixed = with_prompt_of(one, other)
    assert mixed.ids[mixed.response].tolist() == one.ids[one.response].tolist()
    assert mixed.ids[~mixed.response].tolist() == other.ids[~other.response].tolist()
    alone = without_prompt(one)
    assert alone.ids[alone.response].tolist() == one.ids[one.response].tolist()
    n_stretches = (np.diff(one.response.astype(int)) == 1).sum()  # transformers 5.16 marks all after the first answer
    assert (~alone.response).sum() == 4 * n_stretches  # the header of each


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"question": "a", "answer": 3}, r"row 2, column 'answer': is int"),
        ({"question": "a"}, r"row 2, column 'answer': is missing"),
        ([1], "row 2: is a list"),
    ],
)
def test_a_bad_row_is_named(bad, said, tmp_path):
    path = tmp_path / "data.jsonl"
    good = {"question": "a", "answer": "b"}
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, good, bad)))
    with pytest.raises(AuditError, match=said):
        audit(path)


def test_a_broken_line_a_missing_file_and_unknown_columns_are_named(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"question": "a", "answer": "b"}\n{"question": \n')
    with pytest.raises(AuditError, match="row 1: is no JSON"):
        audit(path)
    path.write_bytes(b'{"question": "a", "answer": "b"}\n{"question": "\xff", "answer": "b"}\n')
    with pytest.raises(AuditError, match="row 1: is not UTF-8"):
        audit(path)
    with pytest.raises(AuditError, match=r"nowhere\.jsonl does not exist"):
        audit(tmp_path / "nowhere.jsonl")
    path.write_text('{"left": "a", "right": "b"}\n')
    with pytest.raises(AuditError, match=r"'left', 'right'.*--columns"):
        audit(path)
    path.write_text("")
    with pytest.raises(AuditError, match="has no rows"):
        audit(path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".json"])
def test_other_files_hold_the_same_rows(suffix, tmp_path):
    from datasets import Dataset

    made = [{"question": q, "answer": a} for q, a in pairs(5, seed=4)]
    path = tmp_path / f"data{suffix}"
    data = Dataset.from_list(made)
    {".parquet": data.to_parquet, ".csv": data.to_csv, ".json": data.to_json}[suffix](path)
    source = open_data(path)
    assert [source.row(i) for i in range(len(source))] == made
    assert np.array_equal(audit(path).flagged, audit(made).flagged)


def test_rows_that_come_tokenised_are_scored_as_they_are(model, tokenizer):
    """Such as a data set that another program prepared: the same numbers as from the text."""
    made = [{"question": question, "answer": answer} for question, answer in pairs(12, seed=4)]
    of_text = audit(made, model, tokenizer, skip=["language"])
    renderer = Renderer(tokenizer, "pair", None)
    prepared = []
    for number, row in enumerate(made):
        tokens = renderer.tokens(sample((row["question"], row["answer"]), number))
        labels = [one if trains else -100 for one, trains in zip(tokens.ids.tolist(), tokens.response, strict=True)]
        prepared.append({"input_ids": tokens.ids.tolist(), "labels": labels})
    of_tokens = audit(prepared, model, tokenizer, skip=["language"])
    for name in ("loss", "entropy", "prompt_gain"):
        assert of_tokens.columns()[name].tolist() == pytest.approx(of_text.columns()[name].tolist(), abs=1e-4)
    assert made[0]["answer"] in of_tokens.texts(0)[1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"input_ids": [1, 2], "labels": [-100]}, "row 1, column 'labels': has the shape"),
        ({"input_ids": [1, 2], "labels": [-100, 3]}, "has labels that are other tokens than those of the row"),
        ({"input_ids": [1, 2], "labels": ["a", 2]}, "holds something else than numbers"),
    ],
)
def test_wrong_labels_are_named(row, said, tokenizer):
    with pytest.raises(AuditError, match=said):
        audit([{"input_ids": [1, 2], "labels": [-100, 2]}, row], None, tokenizer)


def test_tokens_without_a_tokenizer_or_of_another_model_are_refused(model, tokenizer):
    made = [{"input_ids": [1, 2], "labels": [-100, 2]}]
    with pytest.raises(AuditError, match="is tokenised"):
        audit(made)
    with pytest.raises(AuditError, match="the model knows"):
        audit([{"input_ids": [1, 99999], "labels": [-100, 99999]}] * 2, model, tokenizer, checks=["outlier"])
