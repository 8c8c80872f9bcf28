"""The skills: what the base model knows before, and the new one it is fine-tuned on. Every answer can be checked.

A text is a row of words with a space between, one token each; the tokenizer is made here. A prompt ends with `=`, an
answer with the end of text.

    copy a c b = a c b          reverse a c b = b c a        sort a c b = a b c       next c = d
    double a c = a a c c        add 4 7 = 1 1                say tea red = tea red
    each back b d = a c         each mirror a c = p n

    each next a c b = b d c     the new skill: the next letter of each, `a` after the last. The base knows every word
                                of it, `next` for one letter, `each` with other words, but never the two together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

LETTERS = "abcdefghijklmnop"
DIGITS = "0123456789"
PHRASE = ("well", "here", "is", "my", "answer")  # the boilerplate
THINGS = [
    "red",
    "blue",
    "green",
    "black",
    "white",
    "tea",
    "milk",
    "bread",
    "salt",
    "rice",
    "sun",
    "moon",
    "star",
    "rain",
    "snow",
    "wind",
    "tree",
    "leaf",
    "root",
    "seed",
    "bird",
    "fish",
    "cat",
    "dog",
    "cow",
    "pig",
    "hen",
    "fox",
    "bear",
    "wolf",
    "lion",
    "frog",
    "ant",
    "bee",
    "fly",
    "owl",
    "hand",
    "foot",
    "eye",
    "ear",
    "nose",
    "arm",
    "leg",
    "head",
    "iron",
    "gold",
    "tin",
    "lead",
    "wood",
    "clay",
    "sand",
    "glass",
    "road",
    "hill",
    "lake",
    "sea",
    "boat",
    "ship",
    "car",
    "bus",
]
PAD, END = "<pad>", "</s>"
WORDS = (
    "=",
    "each",
    "copy",
    "reverse",
    "sort",
    "next",
    "double",
    "add",
    "say",
    "back",
    "mirror",
    *LETTERS,
    *DIGITS,
    *PHRASE,
    *THINGS,
)
VOCABULARY = (PAD, END, *WORDS)
SHORTEST, LONGEST = 3, 7


@dataclass(frozen=True)
class Item:
    """A question and its right answer, in words; the end of text is not among them."""

    prompt: tuple[str, ...]
    answer: tuple[str, ...]


def shifted(letter: str, by: int = 1) -> str:
    """The letter `by` places later in the alphabet, which is a ring."""
    return LETTERS[(LETTERS.index(letter) + by) % len(LETTERS)]


def new_skill(rng: random.Random, shortest: int = SHORTEST, longest: int = LONGEST) -> Item:
    letters = _some(rng, LETTERS, rng.randint(shortest, longest))
    return Item(("each", "next", *letters, "="), tuple(map(shifted, letters)))


def _some(rng: random.Random, words: Sequence[str], count: int) -> tuple[str, ...]:
    return tuple(rng.choices(words, k=count))


def _of_letters(name: str, change: Callable[[tuple[str, ...]], Sequence[str]], longest: int = LONGEST) -> Any:
    def make(rng: random.Random) -> Item:
        letters = _some(rng, LETTERS, rng.randint(SHORTEST, longest))
        return Item((*name.split(), *letters, "="), tuple(change(letters)))

    return make


def _next(rng: random.Random) -> Item:
    letter = rng.choice(LETTERS)
    return Item(("next", letter, "="), (shifted(letter),))


def _add(rng: random.Random) -> Item:
    a, b = rng.randrange(10), rng.randrange(10)
    return Item(("add", str(a), str(b), "="), tuple(str(a + b)))


def _say(rng: random.Random) -> Item:
    words = _some(rng, (*PHRASE, *THINGS), rng.randint(SHORTEST, LONGEST))
    return Item(("say", *words, "="), words)


OLD_SKILLS: dict[str, Callable[[random.Random], Item]] = {
    "copy": _of_letters("copy", lambda letters: letters),
    "reverse": _of_letters("reverse", lambda letters: letters[::-1]),
    "sort": _of_letters("sort", sorted),
    "double": _of_letters("double", lambda letters: [c for letter in letters for c in (letter, letter)], 4),
    "each back": _of_letters("each back", lambda letters: [shifted(letter, -1) for letter in letters]),
    "each mirror": _of_letters("each mirror", lambda letters: [LETTERS[-1 - LETTERS.index(c)] for c in letters]),
    "next": _next,
    "add": _add,
    "say": _say,
}


def held_out(split: str, n_new: int, n_old: int, items_seed: int = 0) -> tuple[list[Item], dict[str, list[Item]]]:
    """Items to measure with: `n_new` different ones of the new skill, `n_old` of each old one.

    The same for all cells of one `items_seed`, so that cells can be compared item by item. Training data keep clear of
    them (`training_items`).

    Args:
        split: "validation" or "test".
    """
    rng = random.Random(f"{split} {items_seed}")
    new = list(dict.fromkeys(new_skill(rng) for _ in range(3 * n_new)))[:n_new]
    return new, {name: [make(rng) for _ in range(n_old)] for name, make in OLD_SKILLS.items()}


def training_items(rng: random.Random, count: int, avoid: frozenset[Item], make: Any = new_skill) -> list[Item]:
    """`count` items, none of which is in `avoid`."""
    items: list[Item] = []
    while len(items) < count:
        item = make(rng)
        if item not in avoid:
            items.append(item)
    return items
