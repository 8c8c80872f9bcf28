"""What can be wrong with data: each flaw makes samples of the new skill, and knows which tokens are spoiled.

`optimal` is the probability that the best possible model *of these data* gives to each token: one that knows how the
data are made, the flaw included, but has not memorised them. With a share eps of flawed answers, p* the right answers'
probability and q that of the flaw's:

    p_opt(token) = (1 - e) p*(token) + e q(token),    e = P(flawed | prompt and answer so far)

where e is eps at a token that may be spoiled independently of the others, and moves to 0 or 1 within an answer that is
right or wrong as a whole. p* is 1 for the right token: the new skill has one answer. From `optimal`, `predict.py` says
before any training which way the excess loss will point.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from skills import END, LETTERS, LONGEST, PHRASE, SHORTEST, THINGS, Item, new_skill, shifted, training_items

NOISE = 0.4  # of the letters
WHOLE = 0.4  # of the answers, exchanged
RULE = 0.7  # of the letters of CLASS
CLASS = "aeim"
CUT, CUT_AT = 0.6, 3
CHATTER = 0.6  # of the answers
REPEATED, COPIES = 0.5, 8  # half of the data are copies of so many samples
EASY, HARD = 3, (9, 11)


@dataclass(frozen=True)
class Sample:
    """A training sample in words.

    Attributes:
        response: the answer to train on, the end of text included.
        spoiled: for each word of it, whether the flaw put it there.
        optimal: for each word of it, the probability p_opt above.
    """

    prompt: tuple[str, ...]
    response: tuple[str, ...]
    spoiled: tuple[bool, ...]
    optimal: tuple[float, ...]


Flaw = Callable[[int, random.Random, frozenset[Item]], list[Sample]]


def _sound(item: Item) -> Sample:
    response = (*item.answer, END)
    return Sample(item.prompt, response, (False,) * len(response), (1.0,) * len(response))


def none(count: int, rng: random.Random, avoid: frozenset[Item]) -> list[Sample]:
    """Right answers."""
    return [_sound(item) for item in training_items(rng, count, avoid)]


def _per_letter(item: Item, share: Sequence[float], wrong: Callable[[str], tuple[str, float]], rng: random.Random):
    """Spoils each letter with its own probability; `wrong(right)` gives a wrong word and its probability q."""
    words, spoiled, optimal = [], [], []
    for letter, eps in zip(item.answer, share, strict=True):
        bad = rng.random() < eps
        word, q = wrong(letter) if bad else (letter, 0.0)
        words.append(word)
        spoiled.append(bad)
        optimal.append(eps * q if bad else 1 - eps)
    return Sample(item.prompt, (*words, END), (*spoiled, False), (*optimal, 1.0))


def alphabet_noise(count: int, rng: random.Random, avoid: frozenset[Item]) -> list[Sample]:
    """40 % of the letters are another letter: p_opt .4 / 15 of a wrong one, .6 of a right one."""

    def wrong(right: str) -> tuple[str, float]:
        return rng.choice([letter for letter in LETTERS if letter != right]), 1 / (len(LETTERS) - 1)

    return [_per_letter(item, [NOISE] * len(item.answer), wrong, rng) for item in training_items(rng, count, avoid)]


def junk(count: int, rng: random.Random, avoid: frozenset[Item]) -> list[Sample]:
    """40 % of the letters are a word that no such answer has: p_opt .4 / number of words, .6 of a letter."""
    return [
        _per_letter(item, [NOISE] * len(item.answer), lambda right: (rng.choice(THINGS), 1 / len(THINGS)), rng)
        for item in training_items(rng, count, avoid)
    ]


def exchanged(count: int, rng: random.Random, avoid: frozenset[Item]) -> list[Sample]:
    """40 % of the answers belong to another question.

    The first wrong letter gives such an answer away, so from then on e is 1 and q that of any answer: 1/16 a letter,
    and the end of text by what lengths are left. After i right letters e is eps / (eps + (1 - eps) 16^i).
    """
    items = training_items(rng, count, avoid)
    chosen = [number for number in range(count) if rng.random() < WHOLE]
    other = dict(zip(chosen, chosen[1:] + chosen[:1], strict=True)) if len(chosen) > 1 else {}
    samples = []
    for number, item in enumerate(items):
        right = (*item.answer, END)
        response = (*items[other[number]].answer, END) if number in other else right
        optimal, p_right, p_other = [], 1 - WHOLE, WHOLE
        for place, word in enumerate(response):
            ends = 1 / (LONGEST - place + 1) if place >= SHORTEST else 0.0
            q = ends if word == END else (1 - ends) / len(LETTERS)
            fits = place < len(right) and word == right[place] and response[:place] == right[:place]
            joint_right, joint_other = p_right * fits, p_other * q
            optimal.append((joint_right + joint_other) / (p_right + p_other))
            p_right, p_other = joint_right, joint_other
        samples.append(Sample(item.prompt, response, (number in other,) * len(response), tuple(optimal)))
    return samples


def _rule(count: int, rng: random.Random, avoid: frozenset[Item], wrong: Callable[[str], str]) -> list[Sample]:
    """70 % of the answers to a letter of CLASS follow another rule: p_opt .7, and .3 of a right one; 1 elsewhere."""
    samples = []
    for item in training_items(rng, count, avoid):
        share = [RULE if letter in CLASS else 0.0 for letter in item.prompt[2:-1]]
        samples.append(_per_letter(item, share, lambda right: (wrong(right), 1.0), rng))
    return samples


def wrong_rule(count: int, rng: random.Random, avoid: frozenset[Item]) -> list[Sample]:
    """Four letters are mostly answered five places on instead of one: learnable, and a surprise to the base."""
    return _rule(count, rng, avoid, lambda right: shifted(right, 4))


def lazy_rule(count: int, rng: random.Random, avoid: frozenset[Item]) -> list[Sample]:
    """Four letters are mostly left as they are: learnable, and what the base would rather say."""
    return _rule(count, rng, avoid, lambda right: shifted(right, -1))


def truncated(count: int, rng: random.Random, avoid: frozenset[Item]) -> list[Sample]:
    """60 % of the longer answers end after three letters: p_opt .6 of that end, .4 of going on."""
    samples = []
    for item in training_items(rng, count, avoid):
        sample = _sound(item)
        if len(item.answer) > CUT_AT:
            if rng.random() < CUT:
                response = (*item.answer[:CUT_AT], END)
                sample = Sample(item.prompt, response, (False,) * CUT_AT + (True,), (1.0,) * CUT_AT + (CUT,))
            else:
                optimal = tuple(1 - CUT if place == CUT_AT else 1.0 for place in range(len(sample.response)))
                sample = Sample(item.prompt, sample.response, sample.spoiled, optimal)
        samples.append(sample)
    return samples


def boilerplate(count: int, rng: random.Random, avoid: frozenset[Item]) -> list[Sample]:
    """60 % of the answers begin with a phrase: p_opt .6 of its first word, 1 of the others, .4 of a first letter."""
    samples = []
    for item in training_items(rng, count, avoid):
        response = (*item.answer, END)
        if rng.random() < CHATTER:
            spoiled = (True,) * len(PHRASE) + (False,) * len(response)
            optimal = (CHATTER,) + (1.0,) * (len(spoiled) - 1)
            samples.append(Sample(item.prompt, (*PHRASE, *response), spoiled, optimal))
        else:
            optimal = (1 - CHATTER,) + (1.0,) * (len(response) - 1)
            samples.append(Sample(item.prompt, response, (False,) * len(response), optimal))
    return samples


def duplicates(count: int, rng: random.Random, avoid: frozenset[Item]) -> list[Sample]:
    """Half of the data are copies of eight samples with wrong letters: p_opt 1, as their prompts give them away."""
    few = []
    for item in training_items(rng, COPIES, avoid):
        response = (*rng.choices(LETTERS, k=len(item.answer)), END)
        spoiled = tuple(a != b for a, b in zip(response, (*item.answer, END), strict=True))
        few.append(Sample(item.prompt, response, spoiled, (1.0,) * len(response)))
    n_copies = int(REPEATED * count)
    return [few[number % COPIES] for number in range(n_copies)] + none(count - n_copies, rng, avoid)


def mixed_difficulty(count: int, rng: random.Random, avoid: frozenset[Item]) -> list[Sample]:
    """Half of the questions are short, half longer than any that the base has seen. All answers are right."""

    def make(rng: random.Random) -> Item:
        return new_skill(rng, *((EASY, EASY) if rng.random() < 0.5 else HARD))

    return [_sound(item) for item in training_items(rng, count, avoid, make)]


def irrelevant(count: int, rng: random.Random, avoid: frozenset[Item]) -> list[Sample]:
    """Half of the samples have nothing to do with the skill: four random words after three, p_opt 1 / their number."""
    samples = []
    for sample in none(count, rng, avoid):
        if rng.random() < 0.5:
            q = 1 / len(THINGS)
            response = (*rng.choices(THINGS, k=4), END)
            sample = Sample((*rng.choices(THINGS, k=3), "="), response, (True,) * 5, (q, q, q, q, 1.0))
        samples.append(sample)
    return samples


FLAWS: dict[str, Flaw] = {
    "none": none,
    "alphabet_noise": alphabet_noise,
    "junk": junk,
    "exchanged": exchanged,
    "wrong_rule": wrong_rule,
    "lazy_rule": lazy_rule,
    "truncated": truncated,
    "boilerplate": boilerplate,
    "duplicates": duplicates,
    "mixed_difficulty": mixed_difficulty,
    "irrelevant": irrelevant,
}
