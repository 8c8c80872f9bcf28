"""What finds the debris before any training: tokens that `trimmed` would leave out, rows that `sstoken audit` flags.

    pip install ".[demo,audit]"
    python recipes/protocol/caught.py --scale cpu

`trimmed` drops a token if the model below the adapter gives it at most a tenth of a uniform guess over the V words of
the vocabulary, log p <= log(0.1 / V). That does not move while the model trains, so this is what all epochs leave out.
Of the audit it is the check `encoding`, which reads the text alone, over all rows of the condition.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

import cell as cells
import conditions
import grid as grids
import measure
from conditions import Example

from sstoken_plugins.methods.trimmed import TrimOptions

HERE = Path(__file__).parent
TRIM = TrimOptions().trim


def spoiled(whole: Sequence[int], sound: Sequence[int]) -> range:
    """The tokens of an answer that are not in its sound form: what lies between the ends that both share."""
    start = 0
    while start < min(len(whole), len(sound)) and whole[start] == sound[start]:
        start += 1
    end = 0
    while end < min(len(whole), len(sound)) - start and whole[-1 - end] == sound[-1 - end]:
        end += 1
    return range(start, len(whole) - end)


def flagged(examples: Sequence[Example]) -> tuple[int, int, int]:
    """Of these rows how many are spoiled, how many of those the check `encoding` flags, and how many others."""
    from sstoken_audit import audit

    rows = [{"prompt": example.prompt, "completion": example.answer} for example in examples]
    (finding,) = audit(rows, checks=["encoding"]).findings
    is_spoiled = [example.answer != example.sound for example in examples]
    right = sum(flag for flag, is_bad in zip(finding.flagged, is_spoiled, strict=True) if is_bad)
    return sum(is_spoiled), int(right), int(finding.flagged.sum() - right)


def main(argv: Sequence[str] | None = None) -> int:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="cpu", help="a name under `scales` in the grid (default: %(default)s)")
    parser.add_argument("--grid", type=Path, default=HERE / "grid.yaml")
    parser.add_argument("--model", help="name or folder, instead of the scale's")
    parser.add_argument("--data", type=Path, help="folder of the sources' files (default: fetched into the cache)")
    arguments = parser.parse_args(argv)
    grid = grids.load(arguments.grid, arguments.scale, conditions=["debris"])
    if arguments.model:
        grid.settings["model"] = arguments.model
    condition = conditions.load("debris", arguments.data)
    plain = [grid.cell("full", "debris", seed, 1e-4, "test") for seed in grid.seeds]
    tokenizer = cells.tokenizer_of(plain[0].model)
    base = AutoModelForCausalLM.from_pretrained(cells.path_of(plain[0].model), dtype=torch.float32)
    model: Any = get_peft_model(base, LoraConfig(target_modules="all-linear")).eval()
    bar = math.log(TRIM / base.get_input_embeddings().num_embeddings)
    losses: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for one in plain:
        drawn = cells.training_data(one, condition)
        found = measure.scores(model, tokenizer, [(example.prompt, example.answer) for example in drawn])
        for example, (log_probs, _) in zip(drawn, found, strict=True):
            whole, asked = measure.tokens_of(tokenizer, example.prompt, example.answer)
            sound, _ = measure.tokens_of(tokenizer, example.prompt, example.sound or example.answer)
            inside = torch.zeros(len(log_probs), dtype=torch.bool)
            inside[list(spoiled(whole[asked:], sound[asked:]))] = True
            for is_debris in losses:
                losses[is_debris].append(log_probs[inside == is_debris, 0])
    for is_debris, parts in losses.items():
        values = torch.cat(parts)
        print(
            f"{'debris' if is_debris else 'the rest'}: {len(values)} tokens, {-values.mean():.2f} nats each; "
            f"left out: {(values <= bar).float().mean():.1%}"
        )
    n_spoiled, right, wrong = flagged(condition.train)
    print(f"rows with debris: {n_spoiled} of {len(condition.train)}; `encoding` flags {right} of them, {wrong} others")
    return 0


if __name__ == "__main__":
    sys.exit(main())
