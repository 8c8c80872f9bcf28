"""Which way the excess loss will point, for each flaw, from the base model alone and before any training.

    python recipes/testbed/predict.py        # writes predictions.json; commit it before the cells that it predicts

REL of a token is log p - log b, with b its probability under the base model. A model that has learned all that these
data teach without memorising them gives a token p_opt = (1 - e) p* + e q (flaws.py), so

    REL(token) = log p_opt(token) - log b(token)

and, of a sound token with surprise s = -log b under the base and a spoiled one with surprise n, where the flaw never
says what is right (q = 0 at the sound one) and the right answer never what the flaw says (p* = 0 at the spoiled one),

    REL(spoiled) > REL(sound)   exactly if   n - s > log((1 - e) p* / (e q)).

Then keeping the highest REL keeps the spoiled token. From the REL of all tokens follows the AUC: the chance that a
sound token has the higher one. Above 0.5 REL points the right way.

A model that sees few samples many times memorises part of them, the spoiled ones too: with a share m of it, p is
m + (1 - m) p_opt. The larger m, the lower the bar, and at m = 1 only n against s counts (`memorised`). How much is
memorised the base model cannot tell: m is 0.05 for such a regime, the best of six values on a pilot of one seed and
four flaws, after m = 1 had failed there. So those predictions are fitted.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import base
import grid as grids
import measure
import torch
from flaws import FLAWS, Sample
from skills import held_out

HERE = Path(__file__).parent
PREDICTIONS = HERE / "predictions.json"
SEEDS = range(9000, 9005)  # of data that no cell trains on
MEMORISES_FROM = 5  # epochs
MEMORISED = 0.05
UNDECIDED = 0.05  # around an AUC of 0.5


def direction(auc: float | None) -> str | None:
    """'right', 'wrong', or 'neither' within 0.05 of a coin's 0.5."""
    if auc is None or abs(auc - 0.5) <= UNDECIDED:
        return None if auc is None else "neither"
    return "right" if auc > 0.5 else "wrong"


def predicted(samples: Sequence[Sample], surprise: torch.Tensor) -> dict[str, Any]:
    """For data of one flaw.

    Args:
        surprise: (T,) -log b of all response tokens, one sample after the other.

    Returns:
        `population`, `partly` and `memorised`: the AUC of REL for a model that has memorised nothing, 5 %, and all;
        `spoiled`: share of the tokens; `n`, `s`: mean surprise of the spoiled and the sound; `bar`: mean over the
        spoiled tokens of log(p_opt sound / p_opt spoiled), with the mean log p_opt of the sound.
    """
    spoiled = torch.tensor([bad for sample in samples for bad in sample.spoiled])
    optimal = torch.tensor([p for sample in samples for p in sample.optimal])
    log_p = optimal.log()

    def mean(values: torch.Tensor, of: torch.Tensor) -> float | None:
        return float(values[of].mean()) if of.any() else None

    bar = mean(log_p, ~spoiled), mean(log_p, spoiled)
    return {
        "population": measure.auc(log_p + surprise, spoiled),
        "partly": measure.auc((MEMORISED + (1 - MEMORISED) * optimal).log() + surprise, spoiled),
        "memorised": measure.auc(surprise, spoiled),
        "spoiled": float(spoiled.float().mean()),
        "n": mean(surprise, spoiled),
        "s": mean(surprise, ~spoiled),
        "bar": None if None in bar else bar[0] - bar[1],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, default=HERE / "grid.yaml", help="(default: %(default)s)")
    parser.add_argument("--base", type=Path, help="folder of the base model (default: made once, in the user's cache)")
    parser.add_argument("--to", type=Path, default=PREDICTIONS, help="(default: %(default)s)")
    arguments = parser.parse_args(argv)
    from transformers import AutoModelForCausalLM

    grid = grids.load(arguments.grid)
    folder = arguments.base or base.folder_of(say=print)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    avoid = frozenset(item for split in ("validation", "test") for item in held_out(split, 200, 1)[0])
    found: dict[str, Any] = {}
    for flaw in grid.flaws:
        count = next(iter(grid.regimes.values()))["samples"]
        samples = [s for seed in SEEDS for s in FLAWS[flaw](count, random.Random(f"{flaw} {seed}"), avoid)]
        numbers = predicted(samples, -measure.label_log_probs(model, samples))
        regimes = {}
        for name, regime in grid.regimes.items():
            auc = numbers["partly" if regime["epochs"] >= MEMORISES_FROM else "population"]
            regimes[name] = {"auc": auc, "direction": direction(auc)}
        found[flaw] = {**numbers, "regimes": regimes}
    content = {"base": base.fingerprint(folder), "seeds": list(SEEDS), "undecided": UNDECIDED, "flaws": found}
    arguments.to.write_text(json.dumps(_rounded(content), indent=1) + "\n", encoding="utf-8")
    print(table(content))
    return 0


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def table(content: dict[str, Any]) -> str:
    """In Markdown."""
    lines = ["| flaw | spoiled | n - s | bar | predicted AUC |", "|---|---|---|---|---|"]
    for name, found in content["flaws"].items():
        if found["population"] is None:
            continue
        aucs = ", ".join(f"{regime} {of['auc']:.2f} ({of['direction']})" for regime, of in found["regimes"].items())
        difference = found["n"] - found["s"]
        lines.append(f"| {name} | {found['spoiled']:.0%} | {difference:.1f} | {found['bar']:.1f} | {aucs} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
