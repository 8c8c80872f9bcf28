"""How well does each check of `sstoken audit` find what it is for? Planted flaws, against simple baselines.

    python recipes/audit/evidence.py --data PATH_TO_GSM8K        # about half an hour on one core

It needs `pip install ".[demo,audit]"` and GSM8K as train.jsonl in a folder. Writes results/evidence.json and, from it,
results/evidence.md. Scores are kept (`--cache`), so that it can be interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import baselines
import numpy as np
import torch
from calibration import calibration
from flaws import Flaws, Pair, chats, gsm8k
from memo import MemoScorer
from rich.console import Console
from table import write_table

from sstoken_audit import audit
from sstoken_audit.data import Table
from sstoken_audit.formats import Format, Renderer
from sstoken_audit.registry import chosen
from sstoken_audit.result import Finding
from sstoken_audit.rows import Rows
from sstoken_audit.scoring import Scoring
from sstoken_audit.store import Store

HERE = Path(__file__).parent
SHARE = 0.1
# Which check is for which flaw. Defaults were chosen with the first in view, and are confirmed on the others.
TUNED = {
    "exchanged": "mismatch",
    "random_tokens": "gibberish",
    "closing": "boilerplate",
    "truncated": "truncated",
    "language": "language",
    "copied": "copied",
    "base64": "encoding",
}
CONFIRMED = {
    "shifted": "mismatch",
    "hexadecimal": "encoding",
    "debris": "encoding",
    "scrambled": "gibberish",
    "opening": "boilerplate",
    "refusal": "refusal",
    "near_duplicates": "duplicate_answer",
}
# These are found by the text alone: the model is not asked, and the baselines that need it are not computed.
TEXT_ONLY = ("refusal", "language", "copied", "near_duplicates")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with GSM8K's train.jsonl")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--rows", type=int, nargs=2, default=[100, 170], help="of GSM8K and of the chats, for each seed"
    )
    parser.add_argument("--sets", nargs="+", default=["chats", "gsm8k"])
    parser.add_argument("--flaws", nargs="+", default=[*TUNED, *CONFIRMED], help="only these")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sstoken_trl.demo.model import model_folder

    folder = model_folder(Console(stderr=True))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = model.to(torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu")
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "evidence.json"
    scorers = {name: MemoScorer(model, 2048, arguments.cache / f"{name}.npz") for name in arguments.sets}
    for seed, name in itertools.product(arguments.seeds, arguments.sets):
        pairs = gsm8k(arguments.data, seed, arguments.rows[0]) if name == "gsm8k" else chats(seed, arguments.rows[1])
        found = study(pairs, seed, scorers[name], tokenizer, arguments.flaws)
        # Results of other sets, seeds and flaws stay, unless they are of other rows.
        cells = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        before = cells.get(f"{name}-{seed}", {})
        if before.get("rows") == len(pairs):
            found["flaws"] = before["flaws"] | found["flaws"]
        cells[f"{name}-{seed}"] = {"set": name, "seed": seed, "rows": len(pairs), "revision": revision(), **found}
        path.write_text(json.dumps(dict(sorted(cells.items())), indent=1) + "\n", encoding="utf-8")
        print(name, seed, len(pairs), flush=True)
    write_table(json.loads(path.read_text("utf-8")), arguments.output / "evidence.md")


def revision() -> str:
    """Of this checkout, marked where it has changes."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip() or "unknown"


def study(pairs: list[Pair], seed: int, scorer: MemoScorer, tokenizer: Any, names: Sequence[str]) -> dict[str, Any]:
    """The named flaws on one data set."""
    n = len(pairs)
    bad = sorted(random.Random(seed).sample(range(1, n), round(SHARE * n)))
    vocabulary = [tokenizer.decode([i]) for i in range(100, len(tokenizer))]
    clean, findings = examine(pairs, scorer, tokenizer, seed)
    result: dict[str, Any] = {
        "clean": {f.check.name: float(f.flagged.mean()) for f in findings},
        "calibration": calibration(*gains(clean), seed),
        "flaws": {},
    }
    flaws = Flaws(lambda rng: rng.choice(vocabulary), seed)
    for name, check in {**TUNED, **CONFIRMED}.items():
        if name not in names:
            continue
        spoiled = getattr(flaws, name)(pairs, bad)
        if name in TEXT_ONLY:
            rows, findings = examine_text(spoiled)
        else:
            # Prompts are exchanged only where that is what is looked for: it is half of the work.
            rows, findings = examine(spoiled, scorer, tokenizer, seed, exchange=check == "mismatch")
        truth = np.isin(np.arange(n), bad)
        by_name = {f.check.name: f for f in findings}
        any_flag = np.any([f.flagged for f in findings], axis=0)
        result["flaws"][name] = {
            "check": check,
            "auc": area(by_name[check].values, truth, ranking(by_name[check])),
            **rates(by_name[check].flagged, truth),
            "any_check_recall": rates(any_flag, truth)["recall"],
            "baselines": {key: area(values, truth) for key, values in baselines.all_of(rows, seed).items()},
        }
    return result


def examine(
    pairs: Sequence[Pair], scorer: MemoScorer, tokenizer: Any, seed: int, exchange: bool = True
) -> tuple[Rows, list[Finding]]:
    """What `sstoken audit` does, with remembered scores."""
    source = Table([{"question": question, "answer": answer} for question, answer in pairs], "pairs")
    form = Format(source)
    with tempfile.TemporaryDirectory() as folder:
        renderer = Renderer(tokenizer, form.kind, 1024)
        scoring = Scoring(Rows(source, form), renderer, scorer, Store(Path(folder), {}), seed, len(pairs) * exchange)
        scoring.run(lambda rows, known: None)
        scores = [scoring.scores(chunk) for chunk in range(-(-len(pairs) // 256))]
    rows = Rows(source, form, scores.__getitem__, scorer.vocabulary, tokenizer.all_special_tokens, seed)
    findings = []
    for check in chosen(None, (), {}, with_model=True):
        values = np.asarray(check.score(rows), float)
        findings.append(Finding(check, values, check.flag(values)))
    return rows, findings


def examine_text(pairs: Sequence[Pair]) -> tuple[Rows, list[Finding]]:
    """The same without a model."""
    result = audit([{"question": question, "answer": answer} for question, answer in pairs])
    return result.rows, result.findings


def ranking(finding: Finding) -> np.ndarray:
    """Orders rows of equal value: where the posterior is 0 for all, rows still differ in their gain."""
    return -finding.check.columns["prompt_gain_over_others"] if finding.check.name == "mismatch" else finding.values


def gains(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Gains with the own prompt and with another's, of the rows that have both."""
    guess = -np.log(rows.vocabulary)
    both = []
    for _, s in rows.each_scored():
        if s.exchanged is not None:
            without = np.logaddexp(s.unprompted, guess)
            both.append([(np.logaddexp(p, guess) - without).sum() for p in (s.log_probs, s.exchanged)])
    own, exchanged = np.array(both).T
    return own, exchanged


def area(values: np.ndarray, truth: np.ndarray, ties: np.ndarray | None = None) -> float:
    """Area under the ROC curve; a row to which the check does not apply counts as the least suspicious."""
    from scipy.stats import rankdata

    values = np.nan_to_num(values, nan=-np.inf)
    if ties is not None:
        values = rankdata(values) + 1e-6 * rankdata(np.nan_to_num(ties, nan=-np.inf))
    ranks = rankdata(values)
    n_bad = truth.sum()
    return float((ranks[truth].sum() - n_bad * (n_bad + 1) / 2) / (n_bad * (~truth).sum()))


def rates(flagged: np.ndarray, truth: np.ndarray) -> Mapping[str, float | None]:
    n = int(flagged.sum())
    return {
        "flagged": n,
        "precision": float((flagged & truth).sum() / n) if n else None,
        "recall": float((flagged & truth).sum() / truth.sum()),
    }


if __name__ == "__main__":
    main()
