"""Weights by information gain, for models that name an item of a catalogue (IGD, arXiv 2506.13229).

    IG(token) = H(items that begin like this so far) - H(those that still do after the token)
    weight    = 1 where IG is not 0, else beta

Much of an item's name decides nothing: once "The Lord of the" is written, "Rings" is certain. H is the entropy, in
nats, of the items' frequencies in the data, over all items that share the tokens so far: a walk down their prefix
tree. The loss is `sum(weight * -log p) / sum(weight)`.

    python recipes/recommendation/information_gain.py --data rows.jsonl --model NAME --output weights.jsonl

The rows have a "prompt" and a "completion", which is the name of an item. The training then takes the numbers as any
other weights of the data:

    sstoken sft ... --sstoken --sstoken_strategy full --sstoken_weights_file weights.jsonl --sstoken_divisor weights

IGD's other half, by which an item's tokens are decoded, is not fine-tuning and is not here.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

Tokens = tuple[int, ...]


def information_gain(items: Iterable[Tokens]) -> dict[Tokens, list[float]]:
    """`H(before) - H(after)` of each token of each item, in nats; items that come more often weigh more."""
    counts = Counter(items)
    total: Counter[Tokens] = Counter()
    spread: defaultdict[Tokens, float] = defaultdict(float)  # sum of n * log n
    for item, n in counts.items():
        for end in range(len(item) + 1):
            total[item[:end]] += n
            spread[item[:end]] += n * math.log(n)

    def entropy(prefix: Tokens) -> float:
        return math.log(total[prefix]) - spread[prefix] / total[prefix]

    return {item: [entropy(item[:end]) - entropy(item[: end + 1]) for end in range(len(item))] for item in counts}


def weights(items: Sequence[Tokens], beta: float) -> list[list[float]]:
    """1 for the tokens that tell items apart, `beta` for the others."""
    gains = information_gain(items)
    return [[1.0 if abs(gain) > 1e-9 else beta for gain in gains[item]] for item in items]


def tokens_of(rows: Iterable[dict[str, str]], tokenizer: Any) -> list[Tokens]:
    """The tokens that TRL trains on of each completion, its end mark included."""
    found = []
    for row in rows:
        prompt = tokenizer(row["prompt"])["input_ids"]
        whole = tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token)["input_ids"]
        if whole[: len(prompt)] != prompt:
            raise ValueError(
                f"The end of the prompt {row['prompt'][-20:]!r} and the beginning of {row['completion']!r} are one "
                "token: move the space between them into the completion."
            )
        found.append(tuple(whole[len(prompt) :]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSON Lines with prompt and completion")
    parser.add_argument("--model", required=True, help="name or folder, for its tokenizer")
    parser.add_argument("--beta", type=float, default=0.1, help="weight of what decides nothing (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="the weights: one line for each row")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.data.read_text(encoding="utf-8").splitlines()]
    found = weights(tokens_of(rows, AutoTokenizer.from_pretrained(options.model)), options.beta)
    options.output.write_text("".join(f"{json.dumps(numbers)}\n" for numbers in found), encoding="utf-8")
    n, low = sum(map(len, found)), sum(numbers.count(options.beta) for numbers in found)
    print(f"{low / n:.1%} of {n} tokens decide nothing: they weigh {options.beta:g}. Written to {options.output}")


if __name__ == "__main__":
    main()
