"""A tiny model that has learned to answer with the words of its prompt, in any order, and then to stop."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
pytest.importorskip("pyarrow")
pytest.importorskip("datasketch")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sstoken_audit.formats import Renderer
from sstoken_audit.samples import Sample

from ..local import WORDS, word_llama

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content }} </s> {% endgeneration %}"
    "{% else %}{{ message.content }} <u> <u> <a> <a> {% endif %}"
    "{% endfor %}"
)
USED = WORDS[:30]
"""The rest is never seen in training."""
STEPS = 200

Pair = tuple[str, str]


def pairs(number: int, seed: int) -> list[Pair]:
    rng = random.Random(seed)
    made = []
    for _ in range(number):
        words = rng.sample(USED, 6)
        made.append((" ".join(words), " ".join([*rng.sample(words, rng.randint(5, 6)), "."])))
    return made


def sample(pair: Pair, number: int = 0) -> Sample:
    turns = ({"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]})
    return Sample(number, *pair, turns, 1)


def rows(made: list[Pair]) -> list[dict[str, str]]:
    return [{"question": question, "answer": answer} for question, answer in made]


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    """Trained for a few seconds."""
    folder = word_llama(tmp_path_factory.mktemp("copier"), CHAT_TEMPLATE, special=("<u>", "<a>", "."))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    renderer = Renderer(tokenizer, "pair", None)
    tokens = [renderer.tokens(sample(pair)) for pair in pairs(3000, seed=1)]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(0.3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = random.Random(0)
    torch.manual_seed(0)
    for _ in range(STEPS):
        batch = rng.sample(tokens, 32)
        width = max(len(one.ids) for one in batch)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for i, one in enumerate(batch):
            ids[i, : len(one.ids)] = torch.from_numpy(one.ids)
            labels[i, : len(one.ids)] = torch.where(torch.from_numpy(one.response), ids[i, : len(one.ids)], -100)
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(model_dir) -> Any:
    return AutoModelForCausalLM.from_pretrained(model_dir)


@pytest.fixture(scope="session")
def tokenizer(model_dir) -> Any:
    return AutoTokenizer.from_pretrained(model_dir)
