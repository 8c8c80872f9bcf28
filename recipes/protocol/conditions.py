"""What is trained on and what is held out: real instruction data with real flaws, and one flaw that is planted.

rated       Alpaca's answers that a judge rated 4.5 of 5 or better; held out: others of these
unrated     Alpaca's answers as they are, of which it is not known which are bad; held out: rated ones
solutions   models' solutions of grade-school problems, most of them wrong, known which; held out: right ones
debris      rated answers, 30 % of them with encoding debris inside; held out: rated ones as they are
own         --train FILE, and --held-out FILE
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sources

SPLITS = ("train", "validation", "test")
HELD_OUT_SHARE = 0.15  # of the questions, for validation and for the test each
DEBRIS_SHARE = 0.3
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


@dataclass(frozen=True)
class Example:
    """A question and its answer."""

    prompt: str
    answer: str
    sound: str | None = None  # the answer without its flaw, which may be the same; None: none is known
    wrong: str | None = None  # of a held-out question, an answer that is known to be wrong


@dataclass(frozen=True)
class Condition:
    """All of the data; `trusted` are right examples for questions that are neither trained on nor held out."""

    train: Sequence[Example]
    trusted: Sequence[Example]
    held_out: dict[str, list[Example]]


def load(name: str, folder: Path | None = None, own: tuple[Path, Path] | None = None) -> Condition:
    """The data of a condition: of every question it is fixed in which part it is.

    Args:
        folder: of the sources' files, if they are not to be fetched.
        own: files of `own`, to train on and held out.

    Raises:
        ValueError: for unknown names, and for files that are missing or do not fit.
    """
    if name == "own":
        return _own(own)
    if name not in MAKERS:
        raise ValueError(f"`conditions` has {name!r}; known: {sorted([*MAKERS, 'own'])}.")
    return MAKERS[name](folder)


def _part(question: str) -> str:
    """By a hash of the question, so that no question is in two parts, whichever file it comes from."""
    share = int(hashlib.sha256(question.encode()).hexdigest()[:8], 16) / 16**8
    if share < HELD_OUT_SHARE:
        return "test"
    if share < 2 * HELD_OUT_SHARE:
        return "validation"
    return "trusted" if share < 3 * HELD_OUT_SHARE else "train"


def _alpaca(name: str, folder: Path | None) -> list[Example]:
    rows = sources.read(sources.path_of(name, folder))
    return [
        Example("\n\n".join(part for part in (row["instruction"], row["input"]) if part), row["output"].strip())
        for row in rows
        if row["output"].strip()
    ]


def _sound(example: Example) -> Example:
    return Example(example.prompt, example.answer, example.answer)


def _rated(folder: Path | None, spoil: Callable[[Example], Example] = _sound) -> Condition:
    examples = _alpaca("rated", folder)
    parts = {part: [one for one in examples if _part(one.prompt) == part] for part in ("trusted", *SPLITS)}
    return Condition(
        train=[spoil(one) for one in parts["train"]],
        trusted=[_sound(one) for one in parts["trusted"]],
        held_out={split: parts[split] for split in SPLITS[1:]},
    )


def _unrated(folder: Path | None) -> Condition:
    rated = _rated(folder)
    train = [one for one in _alpaca("unrated", folder) if _part(one.prompt) == "train"]
    return Condition(train, rated.trusted, rated.held_out)


def _debris(folder: Path | None) -> Condition:
    return _rated(folder, _with_debris)


def _with_debris(example: Example) -> Example:
    """Base64, mark-up or wrongly decoded text at a word boundary of the answer."""
    rng = random.Random(f"debris {example.prompt}")
    if rng.random() >= DEBRIS_SHARE:
        return _sound(example)
    debris = (
        base64.b64encode(rng.randbytes(rng.randint(30, 90))).decode(),
        f'<div class="c-{rng.randint(1, 999)}"><a href="?p={rng.randint(1, 10**6)}&amp;s=1">&nbsp;</a></div>',
        "\u201c\u2026\u2019\u2014\u00e9".encode().decode("cp1252", "ignore") * rng.randint(2, 5),
    )[rng.randrange(3)]
    words = example.answer.split(" ")
    place = rng.randint(0, len(words))
    return Example(example.prompt, " ".join([*words[:place], debris, *words[place:]]), example.answer)


def _solutions(folder: Path | None) -> Condition:
    """To train on: each problem with one of the four solutions, whether it is right or not."""
    train, trusted, held_out = [], [], {split: [] for split in SPLITS[1:]}
    for row in sources.read(sources.path_of("solutions", folder)):
        question, solved = row["question"], [row[model] for model in MODELS]
        part = _part(question)
        right = [one["solution"] for one in solved if one["is_correct"]]
        wrong = [one["solution"] for one in solved if not one["is_correct"]]
        if part == "train":
            one = random.Random(f"solution {question}").choice(solved)
            train.append(Example(question, one["solution"], one["solution"] if one["is_correct"] else None))
        elif part == "trusted":
            trusted.append(Example(question, row["ground_truth"], row["ground_truth"]))
        elif right:
            held_out[part].append(Example(question, right[0], right[0], wrong[0] if wrong else None))
    return Condition(train, trusted, held_out)


def _own(paths: tuple[Path, Path] | None) -> Condition:
    if paths is None:
        raise ValueError("`conditions` has 'own': name its files with --train FILE and --held-out FILE.")
    train, held_out = ([_example(row, path) for row in sources.read(path)] for path in paths)
    half = len(held_out) // 2
    return Condition(train, [], {"validation": held_out[:half], "test": held_out[half:]})


def _example(row: dict[str, str], path: Path) -> Example:
    if not {"prompt", "completion"} <= row.keys():
        raise ValueError(f"{path} has a row with {sorted(row)}: each needs `prompt` and `completion`, as text.")
    return Example(row["prompt"], row["completion"], row.get("sound"), row.get("wrong"))


MAKERS: dict[str, Callable[[Path | None], Condition]] = {
    "rated": _rated,
    "unrated": _unrated,
    "solutions": _solutions,
    "debris": _debris,
}
