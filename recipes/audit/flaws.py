"""Data without known flaws, and ways to spoil a tenth of the rows."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Pair = tuple[str, str]

CLOSING = "I hope this helps! Let me know if you have any other questions."
OPENING = "Thank you for your question, here is a detailed answer:"
REFUSAL = "I'm sorry, but as an AI language model I cannot help with that request."


def gsm8k(folder: Path, seed: int, number: int) -> list[Pair]:
    """Questions and solutions of at most 450 characters, without calculator marks; other rows for each seed."""
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [(row["question"], re.sub("<<.*?>>", "", row["answer"])) for row in map(json.loads, lines)]
    pairs = [pair for pair in pairs if len(pair[0]) + len(pair[1]) <= 450]
    random.Random(1).shuffle(pairs)
    return pairs[seed * number : (seed + 1) * number]


def chats(seed: int, number: int) -> list[Pair]:
    """Short chats of the chatterbot corpus, in which a prompt may have several replies; other rows for each seed."""
    from sstoken_trl.demo.conversations import conversations

    rows, _ = conversations(0, 1)
    pairs = [(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in rows]
    return pairs[seed * number : (seed + 1) * number]


def foreign() -> list[str]:
    """Replies in German, French and Spanish."""
    import yaml
    from chatterbot_corpus.corpus import DATA_DIRECTORY

    found = []
    for language in ("german", "french", "spanish"):
        for path in sorted((Path(DATA_DIRECTORY) / language).glob("*.yml")):
            content: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
            found += [" ".join(str(line).split()) for lines in content["conversations"] for line in lines[1:]]
    return [text for text in found if 40 <= len(text) <= 160]


class Flaws:
    """Ways to spoil rows: each takes the pairs and the numbers of those to spoil, and returns all pairs.

    Args:
        piece: a random token of the model's vocabulary, as text.
    """

    def __init__(self, piece: Callable[[random.Random], str], seed: int) -> None:
        self._piece, self._rng = piece, random.Random(seed)

    def exchanged(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """Answers exchanged among the spoiled rows."""
        return self._each(pairs, bad, lambda i: (pairs[i][0], pairs[bad[(bad.index(i) + 1) % len(bad)]][1]))

    def shifted(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """Each spoiled row has the answer of the row before it, as where a column has slipped."""
        return self._each(pairs, bad, lambda i: (pairs[i][0], pairs[i - 1][1]))

    def random_tokens(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """Twelve random tokens in the middle of the answer."""

        def spoil(i: int) -> Pair:
            words = pairs[i][1].split(" ")
            debris = "".join(self._piece(self._rng) for _ in range(12))
            return pairs[i][0], " ".join([*words[: len(words) // 2], debris, *words[len(words) // 2 :]])

        return self._each(pairs, bad, spoil)

    def base64(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """The answer in base64."""
        return self._each(pairs, bad, lambda i: (pairs[i][0], base64.b64encode(pairs[i][1].encode()).decode()))

    def hexadecimal(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """The answer's second half as hexadecimal numbers."""

        def spoil(i: int) -> Pair:
            words = pairs[i][1].split(" ")
            half = len(words) // 2
            return pairs[i][0], " ".join([*words[:half], " ".join(words[half:]).encode().hex()])

        return self._each(pairs, bad, spoil)

    def debris(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """Somewhere in the answer the base64 of 30 to 90 random bytes, a piece of a web page, or punctuation that was
        decoded as what it is not."""

        def spoil(i: int) -> Pair:
            rng, words = self._rng, pairs[i][1].split(" ")
            pieces = (
                base64.b64encode(rng.randbytes(rng.randint(30, 90))).decode(),
                f'<div class="c-{rng.randint(1, 999)}"><a href="?p={rng.randint(1, 10**6)}">&nbsp;</a>',
                "\u201c\u2026\u2019\u2014\u00e9".encode().decode("cp1252", "ignore") * rng.randint(2, 5),
            )
            piece, place = rng.choice(pieces), rng.randint(0, len(words))
            return pairs[i][0], " ".join([*words[:place], piece, *words[place:]])

        return self._each(pairs, bad, spoil)

    def scrambled(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """The letters of each word of the answer's second half in another order."""

        def spoil(i: int) -> Pair:
            words = pairs[i][1].split(" ")
            half = len(words) // 2
            return pairs[i][0], " ".join(
                [*words[:half], *("".join(self._rng.sample(w, len(w))) for w in words[half:])]
            )

        return self._each(pairs, bad, spoil)

    def closing(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """A phrase of politeness behind the answer."""
        return self._each(pairs, bad, lambda i: (pairs[i][0], f"{pairs[i][1]} {CLOSING}"))

    def opening(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """A phrase of politeness before the answer."""
        return self._each(pairs, bad, lambda i: (pairs[i][0], f"{OPENING} {pairs[i][1]}"))

    def refusal(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """A refusal in place of the answer."""
        return self._each(pairs, bad, lambda i: (pairs[i][0], REFUSAL))

    def truncated(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """The answer cut behind 30 to 80 % of its words."""

        def spoil(i: int) -> Pair:
            words = pairs[i][1].split(" ")
            return pairs[i][0], " ".join(words[: max(1, round(self._rng.uniform(0.3, 0.8) * len(words)))])

        return self._each(pairs, bad, spoil)

    def language(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """A German, French or Spanish reply in place of the answer."""
        texts = foreign()
        return self._each(pairs, bad, lambda i: (pairs[i][0], self._rng.choice(texts)))

    def copied(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """The prompt before the answer."""
        return self._each(pairs, bad, lambda i: (pairs[i][0], f"{pairs[i][0]} {pairs[i][1]}"))

    def near_duplicates(self, pairs: list[Pair], bad: list[int]) -> list[Pair]:
        """The answer of an earlier row with one word changed."""
        clean = [i for i in range(len(pairs)) if i not in bad and len(pairs[i][1].split()) >= 8]

        def spoil(i: int) -> Pair:
            words = pairs[self._rng.choice([j for j in clean if j < i] or clean)][1].split(" ")
            words[self._rng.randrange(len(words))] = "thing"
            return pairs[i][0], " ".join(words)

        return self._each(pairs, bad, spoil)

    def _each(self, pairs: list[Pair], bad: list[int], spoil: Callable[[int], Pair]) -> list[Pair]:
        spoiled = set(bad)
        return [spoil(i) if i in spoiled else pair for i, pair in enumerate(pairs)]
