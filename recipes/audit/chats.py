"""Why are so few exchanged answers flagged among short chats: the calibration, or the signal?

    python recipes/audit/chats.py        # 513 rows, four passes: about five minutes on one quiet core

Scores the chats of the chatterbot corpus with their own prompt, without, and with the prompts of two other rows. Then
compares, at several rates, what the check flags of resampled rows with the most that any threshold could flag for
someone who knows the truth. Writes results/chats.json and results/chats.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from calibration import best_recall, calibration
from exchange import area
from flaws import chats
from memo import MemoScorer
from rich.console import Console

from sstoken_audit.data import Table
from sstoken_audit.formats import Format, Renderer
from sstoken_audit.passes import with_prompt_of, without_prompt
from sstoken_audit.rows import Rows
from sstoken_audit.samples import Tokens

HERE = Path(__file__).parent
RATES, SHARES = (0.1, 0.3, 0.5), (0.05, 0.1, 0.2)
Sums = dict[str, np.ndarray]
"""(n,) sums of log(p + 1/V) over each answer: `own` prompt, `alone`, and the prompts of two `others`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sums = score(arguments.cache / "chats-limit.npz")
    write(study(sums), arguments.output)


def score(cache: Path) -> Sums:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sstoken_trl.demo.model import model_folder

    folder = model_folder(Console(stderr=True))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scorer = MemoScorer(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), 2048, cache)
    source = Table([{"question": question, "answer": answer} for question, answer in chats(0, 1000)], "chats")
    renderer = Renderer(tokenizer, "pair", 1024)
    tokens = [renderer.tokens(sample) for sample in Rows(source, Format(source)).each()]
    ring = np.random.default_rng(0).permutation(len(tokens))

    def sums(some: list[Tokens]) -> np.ndarray:
        guess = -np.log(scorer.vocabulary)
        return np.array([np.logaddexp(each.log_probs, guess).sum() for each in scorer.score(some)])

    found = {"own": sums(tokens), "alone": sums([without_prompt(one) for one in tokens])}
    for number in (1, 2):
        partner = np.empty(len(tokens), int)
        partner[ring] = np.roll(ring, -7 * number)
        found[f"other{number}"] = sums([with_prompt_of(one, tokens[partner[i]]) for i, one in enumerate(tokens)])
    return {**found, "length": np.array([one.response.sum() for one in tokens])}


def study(sums: Sums) -> dict[str, Any]:
    own, alone, one, two, length = (sums[name] for name in ("own", "alone", "other1", "other2", "length"))
    baseline = np.logaddexp(alone, one)
    signals = {
        "gain, in total (the check's)": (own - alone, one - alone),
        "gain, for a token": ((own - alone) / length, (one - alone) / length),
        "gain over the root of the length": ((own - alone) / length**0.5, (one - alone) / length**0.5),
        "gain, as a share of the answer's information": ((own - alone) / -alone, (one - alone) / -alone),
        "gain against another row's prompt": (own - one, two - one),
        "gain against the mean of both": (own - baseline, two - baseline),
    }
    return {
        "rows": len(own),
        "signals": {
            name: {
                "auc": area(right, wrong),
                "best_recall": {
                    f"{rate:g}": {f"{share:g}": best_recall(right, wrong, share, rate) for share in SHARES}
                    for rate in RATES
                },
            }
            for name, (right, wrong) in signals.items()
        },
        "check": {f"{rate:g}": calibration(own - alone, one - alone, seed=0, fdr=rate) for rate in RATES},
    }


def write(found: dict[str, Any], folder: Path) -> None:
    (folder / "chats.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# Exchanged answers among short chats: the calibration, or the signal?",
        "",
        f"Made by `chats.py`, {found['rows']} rows, SmolLM2-135M-Instruct in float32. Best recall: of a threshold "
        "that is chosen with the truth in view, at a false discovery rate of 10, 30 and 50 %, with 10 % exchanged.",
        "",
        "| signal | AUC | best recall at 10 % | at 30 % | at 50 % |",
        "|---|---|---|---|---|",
    ]
    for name, cell in found["signals"].items():
        recalls = [f"{cell['best_recall'][f'{rate:g}']['0.1']:.2f}" for rate in RATES]
        lines.append(f"| {name} | {cell['auc']:.3f} | " + " | ".join(recalls) + " |")
    lines += [
        "",
        "What `mismatch` flags, in 20 draws of two thirds of the rows:",
        "",
        "| stated rate | share exchanged | estimated share | mean share of false flags | draws where it exceeds the "
        "rate | recall | best recall |",
        "|---|---|---|---|---|---|---|",
    ]
    best = found["signals"]["gain, in total (the check's)"]["best_recall"]
    for rate, cells in found["check"].items():
        for share, cell in cells.items():
            values = [f"{cell[key]:.1%}" for key in ("estimated_share", "false_discoveries", "exceeded")]
            values.append("-" if cell["recall"] is None else f"{cell['recall']:.3f}")
            values.append(f"{best[rate][share]:.3f}" if share in best[rate] else "-")
            lines.append(f"| {float(rate):.0%} | {float(share):.0%} | " + " | ".join(values) + " |")
    (folder / "chats.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
