"""Real conversations from the chatterbot corpus, as prompts and completions."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The topics without code (brackets were lost from it), politics and insults.
TOPICS = (
    *("ai", "botprofile", "computers", "conversations", "emotion", "food", "gossip", "greetings", "history"),
    *("literature", "money", "science", "sports", "tech_support", "trivia"),
)
# Here the lines after the first are several replies to it; elsewhere they continue the conversation.
SEVERAL_REPLIES = {"computers", "emotion"}
PLACEHOLDER = re.compile(r"[\[\]<>{}_*]|https?:|%s", re.IGNORECASE)

Sample = dict[str, list[dict[str, str]]]


def conversations(held_out: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Shuffled samples with `prompt` and `completion` in the chat format: those to train on, those held out.

    A prompt is on one side only, or the model would be tested on questions whose other answers it has seen.
    """
    by_prompt: dict[str, dict[str, Sample]] = {}
    for prompt, reply in _exchanges():
        if _is_sensible(prompt, reply):
            by_prompt.setdefault(prompt.lower().strip(" ?.!"), {})[reply.lower()] = {
                "prompt": [{"role": "user", "content": prompt}],
                "completion": [{"role": "assistant", "content": reply}],
            }
    groups = [list(samples.values()) for samples in by_prompt.values()]
    rng = random.Random(seed)
    rng.shuffle(groups)
    test: list[Sample] = []
    while len(test) < held_out:
        test += groups.pop()
    train = [sample for group in groups for sample in group]
    rng.shuffle(train)
    return train, test[:held_out]


def _exchanges() -> Iterator[tuple[str, str]]:
    import yaml
    from chatterbot_corpus.corpus import DATA_DIRECTORY

    for topic in TOPICS:
        content: dict[str, Any] = yaml.safe_load(
            (Path(DATA_DIRECTORY) / "english" / f"{topic}.yml").read_text("utf-8")
        )
        for lines in content["conversations"]:
            first, *rest = (" ".join(str(line).split()) for line in lines)
            for reply in rest if topic in SEVERAL_REPLIES else rest[:1]:
                yield first, reply


def _is_sensible(prompt: str, reply: str) -> bool:
    return 3 <= len(prompt.split()) <= 40 and 3 <= len(reply.split()) <= 60 and not PLACEHOLDER.search(prompt + reply)
