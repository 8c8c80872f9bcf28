"""Batches and data that no model can be given: the row, the position or the column is named."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Sequence as Lists

from sstoken_plugins import SSTokenConfig, TokenSelector
from sstoken_transformers.rows import problems_of_texts, problems_of_tokens

from ..core.tiny import VOCABULARY
from .training import adapted, make, pad, rows


@pytest.fixture(scope="module")
def selector() -> tuple[TokenSelector, Any]:
    model = adapted().train()
    made = TokenSelector(SSTokenConfig())
    made.attach(model)
    return made, model


def weights_of(selector: tuple[TokenSelector, Any], batch: dict[str, Any], helped: bool) -> torch.Tensor:
    if helped:
        selector[0].lookup(batch)
    return selector[0].forward(selector[1], batch, step=0)[1].weights


def put(name: str, value: int) -> Any:
    def change(batch: dict[str, Any]) -> None:
        batch[name][1, 5] = value

    return change


def replace(**changes: Any) -> Any:
    def change(batch: dict[str, Any]) -> None:
        for name, how in changes.items():
            batch[name] = how(batch[name])

    return change


CASES = {
    "id beyond": (put("input_ids", VOCABULARY), "`input_ids`"),
    "id far beyond": (put("input_ids", 2**40), "`input_ids`"),
    "negative id": (put("input_ids", -1), "`input_ids`"),
    "label beyond": (put("labels", VOCABULARY), "`labels`"),
    "label -1": (put("labels", -1), "`labels`"),
    "label far beyond": (put("labels", 2**62), "`labels`"),
    "float labels": (replace(labels=lambda each: each.float()), "`labels`"),
    "bool labels": (replace(labels=lambda each: each > 0), "`labels`"),
    "float ids": (replace(input_ids=lambda each: each.double()), "`input_ids`"),
    "labels a list": (replace(labels=lambda each: each.tolist()), "`labels`"),
    "labels None": (replace(labels=lambda each: None), "`labels`"),
    "ids None": (replace(input_ids=lambda each: None), "`input_ids`"),
    "narrow labels": (replace(labels=lambda each: each[:, 1:]), "`labels`"),
    "flat": (replace(labels=lambda each: each[0], input_ids=lambda each: each[0]), "`input_ids`"),
    "empty": (replace(labels=lambda each: each[:, :0], input_ids=lambda each: each[:, :0]), "`input_ids`"),
    "no rows": (replace(labels=lambda each: each[:0], input_ids=lambda each: each[:0]), "`input_ids`"),
    "mask of another shape": (replace(attention_mask=lambda each: each[:, 1:]), "`attention_mask`"),
    "mask of four dimensions": (replace(attention_mask=lambda each: each[:, None, None]), "`attention_mask`"),
}


@pytest.mark.parametrize("helped", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_batches_that_no_model_can_be_given(ledger, selector, case, helped):
    change, name = CASES[case]
    batch = pad(list(rows(4)))
    change(batch)
    came = ledger.trial("damaged batch", (case, helped), lambda: weights_of(selector, batch, helped),
                        lambda found: False, names=name)  # fmt: skip
    assert came == "refused"


@pytest.mark.parametrize("n", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_any_values_in_the_places_of_tokens(ledger, selector, n):
    """Numbers from anywhere: they are valid tokens, or named."""
    rng = random.Random(0)
    for number in range(n):
        batch = pad(list(rows(4)))
        name = rng.choice(["input_ids", "labels"])
        value = rng.choice([rng.randrange(-200, 200), rng.randrange(-(2**62), 2**62)])
        row, column = rng.randrange(4), rng.randrange(6)
        batch[name][row, column] = value
        valid = 0 <= value < VOCABULARY or (name == "labels" and value == -100)
        helped = bool(number % 2)
        came = ledger.trial(
            "damaged batch", (name, value), lambda batch=batch, helped=helped: weights_of(selector, batch, helped),
            lambda found, valid=valid: valid, names=f"`{name}`",
        )  # fmt: skip
        assert came == ("survived" if valid else "refused")


def lists(values: list[Any], kind: str = "int64") -> Dataset:
    return Dataset.from_dict({"input_ids": values}, Features({"input_ids": Lists(Value(kind))}))


def with_labels(labels: list[Any], kind: str = "int64") -> Dataset:
    ids = [[3, 4, 5]] * len(labels)
    features = Features({"input_ids": Lists(Value("int64")), "labels": Lists(Value(kind))})
    return Dataset.from_dict({"input_ids": ids, "labels": labels}, features)


fine = [[3, 4, 5]] * 1500
TOKENISED = {
    "no rows": (lists([]), ("no rows",)),
    "empty list": (lists([*fine, []]), ("'input_ids'", "row 1500")),
    "None": (lists([*fine, None]), ("'input_ids'", "row 1500")),
    "None inside": (lists([*fine, [3, None]]), ("'input_ids'", "row 1500")),
    "beyond": (lists([*fine, [3, VOCABULARY]]), ("'input_ids'", "row 1500", str(VOCABULARY))),
    "negative": (lists([[3, -4]]), ("'input_ids'", "row 0", "-4")),
    "floats": (lists([[3.0]], "float64"), ("'input_ids'", "row 0")),
    "text": (lists([["x"]], "string"), ("'input_ids'", "row 0")),
    "labels beyond": (with_labels([*fine, [-100, 4, 99]]), ("'labels'", "row 1500", "99")),
    "label -1": (with_labels([[-100, 4, -1]]), ("'labels'", "row 0", "-1")),
    "float labels": (with_labels([[-100.0, 4.0, 5.0]], "float32"), ("'labels'", "row 0")),
    "labels None": (with_labels([*fine, None]), ("'labels'", "row 1500")),
}


@pytest.mark.parametrize("case", TOKENISED)
def test_tokenised_data(ledger, case):
    from sstoken_plugins.errors import refuse

    dataset, names = TOKENISED[case]
    came = ledger.trial("damaged data", case, lambda: refuse(problems_of_tokens(dataset, VOCABULARY)),
                        lambda found: False, names=names)  # fmt: skip
    assert came == "refused"


def chats(*contents: Any, role: Any = "user") -> Dataset:
    return Dataset.from_list([{"messages": [{"role": role, "content": each}]} for each in contents])


TEXTS = {
    "no rows": (Dataset.from_list([]), ("no rows",)),
    "None": (Dataset.from_list([{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": None}]),
             ("'completion'", "row 1")),
    "numbers": (Dataset.from_list([{"text": 3}]), ("'text'", "row 0")),
    "all None": (Dataset.from_list([{"text": None}]), ("'text'", "row 0")),
    "chat None": (chats("a", "b", None), ("'messages.content'", "row 2")),
    "chat numbers": (chats(1, 2), ("'messages.content'", "row 0")),
    "role None": (chats("a", role=None), ("'messages.role'", "row 0")),
    "chat of texts": (Dataset.from_list([{"messages": ["a", "b"]}]), ("'messages'", "row 0")),
    "chat missing": (Dataset.from_list([{"messages": [{"role": "user", "content": "a"}]}, {"messages": None}]),
                     ("'messages'", "row 1")),
    "chat empty": (Dataset.from_list([{"messages": [{"role": "user", "content": "a"}]}, {"messages": []}]),
                   ("'messages'", "row 1")),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_texts_and_chats(ledger, case):
    from sstoken_plugins.errors import refuse

    dataset, names = TEXTS[case]
    came = ledger.trial("damaged data", case, lambda: refuse(problems_of_texts(dataset)), lambda found: False,
                        names=names)  # fmt: skip
    assert came == "refused"


def test_data_that_are_fine_pass():
    assert not list(problems_of_tokens(rows(), VOCABULARY))
    assert not list(problems_of_texts(Dataset.from_list([{"prompt": "a", "completion": "b"}])))
    assert not list(problems_of_texts(chats("a", "b")))
    tools = [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}, {"role": "user", "content": "a"}]
    assert not list(problems_of_texts(Dataset.from_list([{"messages": tools}])))


def test_a_row_behind_those_that_are_looked_at_first_is_named_by_the_data_loader(ledger, tmp_path):
    """`train` looks at a thousand rows; whatever comes behind is looked at batch by batch."""
    data = [{"input_ids": [3, 4, 5, 6], "labels": [-100, -100, 5, 6]}] * 1004
    data[1001] = {"input_ids": [3, 4, 5, 6], "labels": [-100, -100, 5, 4000]}
    trainer = make(tmp_path / "run", "base", train_sampling_strategy="sequential", save_strategy="no", max_steps=251)
    trainer.train_dataset = Dataset.from_list(data).select(range(1000, 1004))
    ledger.trial("damaged batch", "behind", trainer.train, lambda found: False, names=("`labels`", "4000"))
