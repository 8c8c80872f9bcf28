"""Which signal tells what was spoiled? Ranks every token of a plain fine-tuning by each, and asks who is at the end.

    python recipes/study/spoiled.py --to recipes/study/results          # minutes on a CPU

Writes spoiled.csv and spoiled.md: for each signal and way to spoil the answers, the probability that a spoiled token
has a lower value than a token that was not (the area under the ROC curve). 1: a threshold parts them. 0.5: the signal
says nothing. Below: it points the wrong way, and a strategy that keeps the highest keeps what was spoiled. The same of
the means over whole answers, where a condition spoils whole answers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
import variants
from cell import Cell, run
from run import model_of
from scipy import stats
from torch import Tensor
from tqdm import tqdm

from sstoken_plugins import Documents, Method, Progress, Selection, hookimpl, registry

SIGNALS = {
    "rel": "`rel`",
    "rel_relative": "`rel` relative to the history loss",
    "attention": "`attention`",
    "attention_excess": "`attention` beyond an even spread",
    "plausibility": "log p",
    "history_plausibility": "log p of the history",
    "entropy": "entropy",
    "prompt_gain": "`prompt_gain`",
}
CONDITIONS = ("random_tokens", "boilerplate", "spliced_sentences", "swapped_responses")
SETTINGS: dict[str, dict[str, Any]] = {
    "chats": {"samples": 64},
    "gsm8k": {"samples": 32, "max_tokens": 110},
}
LEARNED = 2  # optimizer steps before tokens are looked at: before, `rel` is 0


class Watch(Method):
    """Reads all signals, and trains on everything."""

    seen: ClassVar[list[dict[str, Any]]] = []

    def signals(self, progress: Progress) -> Sequence[str]:
        return list(SIGNALS)

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return torch.ones_like(signals["rel"])


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("watch", Watch)


@hookimpl
def observe(selection: Selection) -> None:
    step = selection.measured.progress.step
    if step < LEARNED:
        return
    documents = selection.documents
    corrupted = variants.Corrupted()(selection.measured)
    response = documents.response
    Watch.seen += [
        dict(zip((*SIGNALS, "corrupted", "answer"), values, strict=True))
        for values in zip(
            *(selection.signals[name][response].tolist() for name in SIGNALS),
            corrupted[response].bool().tolist(),
            (documents.ids[response] + 1000 * step).tolist(),
            strict=True,
        )
    ]


def part(values: pd.Series, corrupted: pd.Series) -> float | None:
    """The probability that a corrupted one is lower than another; half if equal. None without both kinds."""
    n, n_corrupted = len(values), int(corrupted.sum())
    if n_corrupted in (0, n):
        return None
    ranks = pd.Series(stats.rankdata(values), values.index)
    lower = ranks[~corrupted].sum() - (n - n_corrupted) * (n - n_corrupted + 1) / 2
    return float(lower / (n_corrupted * (n - n_corrupted)))


def rows_of(cell: Cell, model: str, gsm8k: Path | None) -> Iterator[dict[str, Any]]:
    """One for each signal."""
    Watch.seen.clear()
    run(cell, model, gsm8k)
    tokens = pd.DataFrame(Watch.seen)
    answers = tokens.groupby("answer").mean()
    whole = answers.corrupted.isin([0, 1]).all()
    for name in SIGNALS:
        yield {
            "data": cell.data,
            "condition": cell.condition,
            "seed": cell.seed,
            "signal": name,
            "tokens": part(tokens[name], tokens.corrupted),
            "answers": part(answers[name], answers.corrupted.astype(bool)) if whole else None,
        }


def table(found: pd.DataFrame) -> str:
    """Means over seeds, of whole answers in brackets."""
    columns = [(data, condition) for data in SETTINGS for condition in CONDITIONS]
    columns = [c for c in columns if ((found.data == c[0]) & (found.condition == c[1])).any()]
    heads = [f"{'GSM8K' if data == 'gsm8k' else data}: {condition}".replace("_", " ") for data, condition in columns]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|"]
    for signal, shown in SIGNALS.items():
        cells = []
        for data, condition in columns:
            own = found[(found.data == data) & (found.condition == condition) & (found.signal == signal)]
            of_answers = own.answers.astype(float).mean()
            cells.append(f"{own.tokens.mean():.2f}" + ("" if pd.isna(of_answers) else f" ({of_answers:.2f})"))
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("outputs/study"), help="folder (default: %(default)s)")
    parser.add_argument("--model", help="name or folder (default: SmolLM2-135M-Instruct, from PyPI)")
    parser.add_argument("--gsm8k", type=Path, help="folder with GSM8K's train.jsonl and test.jsonl (default: the hub)")
    parser.add_argument("--data", nargs="+", choices=sorted(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    arguments = parser.parse_args(argv)
    registry.plugin_manager().register(sys.modules[__name__])
    cells = [
        Cell("watch", condition, seed, {"strategy": "watch"}, data=data, held_out=1, unrelated=1, **SETTINGS[data])
        for data in arguments.data
        for condition in CONDITIONS
        for seed in arguments.seeds
    ]
    model = model_of(arguments)
    found = pd.DataFrame([row for cell in tqdm(cells, unit="cell") for row in rows_of(cell, model, arguments.gsm8k)])
    arguments.to.mkdir(parents=True, exist_ok=True)
    found.to_csv(arguments.to / "spoiled.csv", index=False, float_format="%.4g")
    text = f"# Which signal tells what was spoiled?\n\n{ABOUT}\n\n{table(found)}\n"
    (arguments.to / "spoiled.md").write_text(text, encoding="utf-8")
    print(table(found))


ABOUT = (
    f"While a model is fine-tuned on all tokens, from step {LEARNED} on: the probability that a spoiled token has a "
    "lower value than one that was not, and in brackets the same of the means over whole answers. 1: a threshold "
    "parts them. 0.5: the signal says nothing. Below: it points the wrong way."
)

if __name__ == "__main__":
    main()
