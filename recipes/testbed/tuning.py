"""Which trial of an arm is reported: the best on the validation items, with seeds that report nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from grid import FIRST_TUNING_SEED, Grid, Trial

Chosen = dict[tuple[str, str, str], Trial]
"""By regime, flaw and arm."""


def share(bits: str) -> float:
    """Of a string of 0 and 1, the share of 1."""
    return bits.count("1") / len(bits)


def retained(old: Mapping[str, str]) -> float:
    """Mean over the old skills of the share that is right."""
    return sum(map(share, old.values())) / len(old)


def score(result: Mapping[str, Any]) -> tuple[float, float, float]:
    """What is compared, in this order: exact match of the new skill on the validation items in steps of 2 points, the
    retention there, and the loss at its best temperature, lower being better."""
    return round(share(result["new"]) * 50) / 50, retained(result["old"]), -result["loss_tempered"]


def choose(grid: Grid, results: Iterable[Mapping[str, Any]]) -> Chosen:
    """The trial with the best mean score over the tuning seeds; only for arms of which all trials were run."""
    scores: dict[Any, list[tuple[float, float, float]]] = defaultdict(list)
    for result in results:
        cell = result["cell"]
        if cell["split"] == "validation" and cell["seed"] in grid.tuning_seeds:
            key = (
                cell["regime"],
                cell["flaw"],
                cell["arm"],
                cell["learning_rate"],
                repr(sorted(cell["options"].items())),
            )
            scores[key].append(score(result))
    chosen: Chosen = {}
    for regime in grid.regimes:
        for flaw in grid.flaws:
            for arm, trials in grid.arms.items():
                of = [
                    scores[regime, flaw, arm, trial.learning_rate, repr(sorted(trial.options.items()))]
                    for trial in trials
                ]
                if len(trials) == 1:
                    chosen[regime, flaw, arm] = trials[0]
                elif all(len(some) == len(grid.tuning_seeds) for some in of):
                    means = [tuple(sum(values) / len(values) for values in zip(*some, strict=True)) for some in of]
                    chosen[regime, flaw, arm] = trials[max(range(len(trials)), key=means.__getitem__)]
    return chosen


def budget(grid: Grid) -> str:
    """One line that says that all arms were tuned alike."""
    trials = {len(some) for some in grid.arms.values()}
    return (
        f"Tuning: {', '.join(map(str, trials))} trials for each of {len(grid.arms)} arms, for each flaw and regime, "
        f"with seeds {list(grid.tuning_seeds)} (from {FIRST_TUNING_SEED} on, none reports), on validation items."
    )
