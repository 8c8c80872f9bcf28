"""How well does the gain from the prompt tell exchanged answers, and does the stated false discovery rate hold?

    python recipes/audit/exchange.py --data PATH_TO_GSM8K        # about twenty minutes on one quiet core

The part of `evidence.py` that matters most, on more rows: 200 of GSM8K and 400 short chats, each scored with its own
prompt, without, and with the prompt of the next row. Writes results/exchange.json and results/exchange.md.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baselines import cosine
from calibration import DRAWS, calibration
from memo import MemoScorer
from rich.console import Console

from sstoken_audit.data import Table
from sstoken_audit.formats import Format, Renderer
from sstoken_audit.passes import with_prompt_of, without_prompt
from sstoken_audit.rows import Rows

HERE = Path(__file__).parent
Pair = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with GSM8K's train.jsonl")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sstoken_trl.demo.model import model_folder

    folder = model_folder(Console(stderr=True))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    scorer = MemoScorer(model, 2048, arguments.cache / "exchange.npz")
    found = {name: study(pairs, scorer, tokenizer) for name, pairs in data(arguments.data).items()}
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "exchange.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (arguments.output / "exchange.md").write_text(table(found), encoding="utf-8")


def data(gsm8k: Path) -> dict[str, list[Pair]]:
    from sstoken_trl.demo.conversations import conversations

    rows = [json.loads(line) for line in (gsm8k / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    random.Random(0).shuffle(rows)
    train, _ = conversations(40, 0)
    return {
        "gsm8k": [(row["question"], re.sub("<<.*?>>", "", row["answer"])) for row in rows[:200]],
        "chats": [(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in train[:400]],
    }


def study(pairs: list[Pair], scorer: MemoScorer, tokenizer: Any) -> dict[str, Any]:
    renderer = Renderer(tokenizer, "pair", 1024)
    tokens = [renderer.tokens(sample) for sample in _rows(pairs).each()]
    others = [with_prompt_of(one, tokens[(i + 1) % len(tokens)]) for i, one in enumerate(tokens)]
    own, alone, exchanged = (
        [scores.log_probs for scores in scorer.score(some)]
        for some in (tokens, [without_prompt(one) for one in tokens], others)
    )
    guess = -np.log(scorer.vocabulary)

    def gain(with_prompt: list[np.ndarray]) -> np.ndarray:
        both = zip(with_prompt, alone, strict=True)
        return np.array([(np.logaddexp(p, guess) - np.logaddexp(u, guess)).sum() for p, u in both])

    lengths = np.array([len(one) for one in own])
    mixed = [(pairs[(i + 1) % len(pairs)][0], answer) for i, (_, answer) in enumerate(pairs)]
    right, wrong = (cosine(_rows(some)) for some in (pairs, mixed))
    signals = {
        "prompt gain, in total": (gain(own), gain(exchanged)),
        "prompt gain, for a token": (gain(own) / lengths, gain(exchanged) / lengths),
        "loss": tuple(np.array([p.mean() for p in some]) for some in (own, exchanged)),
        "IFD": tuple(
            np.array([p.mean() - u.mean() for p, u in zip(some, alone, strict=True)]) for some in (own, exchanged)
        ),
        "TF-IDF cosine": (right, wrong),
        "length": (lengths, lengths),
    }
    return {
        "rows": len(pairs),
        "auc": {name: area(*values) for name, values in signals.items()},
        "calibration": calibration(gain(own), gain(exchanged), seed=0),
    }


def _rows(pairs: list[Pair]) -> Rows:
    source = Table([{"question": question, "answer": answer} for question, answer in pairs], "pairs")
    return Rows(source, Format(source))


def area(right: np.ndarray, wrong: np.ndarray) -> float:
    """The probability that a right pair has the higher value; ties count half."""
    differences = np.subtract.outer(right, wrong)
    return float((differences > 0).mean() + 0.5 * (differences == 0).mean())


def table(found: dict[str, Any]) -> str:
    names = list(found)
    lines = [
        "# Exchanged answers",
        "",
        "Made by `exchange.py` with SmolLM2-135M-Instruct in float32. AUC: the probability that a right pair of "
        "prompt and answer has a higher value than a pair with the prompt of another row (of the loss: a lower one).",
        "",
        "| signal | " + " | ".join(f"{name}, {found[name]['rows']} rows" for name in names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for signal in found[names[0]]["auc"]:
        lines.append(f"| {signal} | " + " | ".join(f"{found[name]['auc'][signal]:.4f}" for name in names) + " |")
    for name in names:
        lines += [
            "",
            f"## {name}: is the false discovery rate of 10 % kept?",
            "",
            f"{DRAWS} draws of two thirds of the rows for each share of exchanged answers.",
            "",
            "| share exchanged | estimated share | mean share of false flags | draws where it exceeds 10 % | recall |",
            "|---|---|---|---|---|",
        ]
        for share, cell in found[name]["calibration"].items():
            recall = "-" if cell["recall"] is None else f"{cell['recall']:.3f}"
            values = [f"{cell[key]:.1%}" for key in ("estimated_share", "false_discoveries", "exceeded")]
            lines.append(f"| {float(share):.0%} | " + " | ".join([*values, recall]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
