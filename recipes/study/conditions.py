"""What the model learns from: two data sets, and five ways to spoil their answers, each known token by token."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CALCULATOR = re.compile(r"<<.*?>>")  # GSM8K's annotations
SHARE = 0.3  # of the tokens, sentences or samples that a condition spoils
BOILERPLATE = "Thank you for your question! As a helpful assistant, I am always happy to help. "


@dataclass(frozen=True)
class Sample:
    """A question and its answer in tokens; `corrupted[i]` says that `response[i]` is not of this answer."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    corrupted: tuple[bool, ...]

    @property
    def row(self) -> dict[str, list[int]]:
        return {
            "input_ids": [*self.prompt, *self.response],
            "labels": [-100] * len(self.prompt) + [*self.response],
        }


@dataclass(frozen=True)
class Data:
    """Questions and answers as text: those to train on, those held out."""

    train: list[tuple[str, str]]
    held_out: list[tuple[str, str]]


def gsm8k(path: Path | None) -> Data:
    """Grade-school mathematics, from a folder with train.jsonl and test.jsonl, or from the hub."""
    if path is not None:
        rows = {
            split: [json.loads(line) for line in (path / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
            for split in ("train", "test")
        }
    else:
        from datasets import load_dataset

        rows = {split: list(load_dataset("openai/gsm8k", "main", split=split)) for split in ("train", "test")}
    pairs = {
        split: [(row["question"], CALCULATOR.sub("", row["answer"])) for row in some] for split, some in rows.items()
    }
    return Data(pairs["train"], pairs["test"])


def chats() -> Data:
    """Short real conversations, from the package chatterbot-corpus."""
    from sstoken_trl.demo.conversations import conversations

    train, held_out = conversations(held_out=200, seed=0)
    return Data(
        *([(s["prompt"][0]["content"], s["completion"][0]["content"]) for s in some] for some in (train, held_out))
    )


class Encoder:
    """Text to tokens, in the model's chat format."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.vocabulary = len(tokenizer)
        self.end = int(tokenizer.eos_token_id)

    def prompt(self, question: str) -> tuple[int, ...]:
        # Without a system prompt, a template may put in one of its own, which would be half of a short chat.
        messages = [{"role": "system", "content": ""}, {"role": "user", "content": question}]
        return tuple(self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))

    def text(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)

    def read(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def sample(self, question: str, answer: str) -> Sample:
        response = (*self.text(answer), self.end)
        return Sample(self.prompt(question), response, (False,) * len(response))


Spoil = Callable[[list[tuple[str, str]], Encoder, random.Random], list[Sample]]


def clean(pairs: list[tuple[str, str]], encoder: Encoder, rng: random.Random) -> list[Sample]:
    """The answers as they are."""
    return [encoder.sample(*pair) for pair in pairs]


def random_tokens(pairs: list[tuple[str, str]], encoder: Encoder, rng: random.Random) -> list[Sample]:
    """30 % of the response tokens replaced by tokens drawn from the whole vocabulary."""
    samples = []
    for sample in clean(pairs, encoder, rng):
        corrupted = tuple(rng.random() < SHARE for _ in sample.response)
        response = tuple(
            rng.randrange(encoder.vocabulary) if bad else token
            for token, bad in zip(sample.response, corrupted, strict=True)
        )
        samples.append(replace(sample, response=response, corrupted=corrupted))
    return samples


def spliced_sentences(pairs: list[tuple[str, str]], encoder: Encoder, rng: random.Random) -> list[Sample]:
    """After 30 % of the lines of an answer, a line of another answer."""
    samples = []
    lines = [[line + "\n" for line in answer.splitlines()] for _, answer in pairs]
    for number, (question, _) in enumerate(pairs):
        pieces: list[tuple[str, bool]] = []
        for line in lines[number]:
            pieces.append((line, False))
            if rng.random() < SHARE:
                other = rng.choice([i for i in range(len(pairs)) if i != number])
                pieces.append((rng.choice(lines[other]), True))
        samples.append(_joined(question, pieces, encoder))
    return samples


def swapped_responses(pairs: list[tuple[str, str]], encoder: Encoder, rng: random.Random) -> list[Sample]:
    """30 % of the samples have the answer to another question."""
    chosen = [number for number in range(len(pairs)) if rng.random() < SHARE]
    answer_of = dict(zip(chosen, chosen[1:] + chosen[:1], strict=True)) if len(chosen) > 1 else {}
    samples = []
    for number, (question, answer) in enumerate(pairs):
        wrong = number in answer_of
        sample = encoder.sample(question, pairs[answer_of[number]][1] if wrong else answer)
        samples.append(replace(sample, corrupted=(wrong,) * len(sample.response)))
    return samples


def boilerplate(pairs: list[tuple[str, str]], encoder: Encoder, rng: random.Random) -> list[Sample]:
    """Every answer begins with the same phrases, which have nothing to do with it."""
    return [_joined(question, [(BOILERPLATE, True), (answer, False)], encoder) for question, answer in pairs]


def _joined(question: str, pieces: list[tuple[str, bool]], encoder: Encoder) -> Sample:
    response: list[int] = []
    corrupted: list[bool] = []
    for text, bad in pieces:
        tokens = encoder.text(text)
        response += tokens
        corrupted += [bad] * len(tokens)
    end = encoder.sample(question, "")
    return Sample(end.prompt, (*response, *end.response), (*corrupted, False))


CONDITIONS: dict[str, Spoil] = {
    "clean": clean,
    "random_tokens": random_tokens,
    "spliced_sentences": spliced_sentences,
    "swapped_responses": swapped_responses,
    "boilerplate": boilerplate,
}
