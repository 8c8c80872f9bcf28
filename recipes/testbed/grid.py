"""What is run: arms by name, flaws, regimes and seeds, from a YAML file; and each arm's equal share of tuning."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cell import Cell
from flaws import FLAWS

FIRST_TUNING_SEED = 1000
"""Seeds from here on only choose; those below it only report."""


@dataclass(frozen=True)
class Trial:
    """A learning rate and the options of a method, as one try of its tuning."""

    learning_rate: float
    options: dict[str, Any]
    data: str = "flawed"


@dataclass(frozen=True)
class Grid:
    """The plan: `arms` gives the trials of each arm, as many for each."""

    arms: dict[str, tuple[Trial, ...]]
    flaws: tuple[str, ...]
    regimes: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    settings: dict[str, Any]

    def tuning(self) -> Iterator[Cell]:
        """All trials: every arm's first before any arm's second, so what is done is balanced."""
        trials = len(next(iter(self.arms.values())))
        if trials == 1:  # there is nothing to choose
            return
        for seed, regime, trial in itertools.product(self.tuning_seeds, self.regimes, range(trials)):
            for flaw, arm in itertools.product(self.flaws, self.arms):
                if trial_is_needed(flaw, arm):
                    yield self.cell(arm, flaw, regime, seed, self.arms[arm][trial], split="validation")

    def rows(self) -> Iterator[tuple[int, str, str]]:
        """(seed, regime, flaw) of the cells that report: a seed of everything before the next seed."""
        return itertools.product(self.seeds, self.regimes, self.flaws)

    def cell(self, arm: str, flaw: str, regime: str, seed: int, trial: Trial, **more: Any) -> Cell:
        chosen = {**self.settings, **self.regimes[regime], **more}
        return Cell(
            arm, flaw, seed, trial.options, regime, learning_rate=trial.learning_rate, data=trial.data, **chosen
        )


ORACLE = "oracle"
NOTHING_SPOILED = ("none", "mixed_difficulty")


def trial_is_needed(flaw: str, arm: str) -> bool:
    """Where nothing is spoiled, the oracle is plain fine-tuning."""
    return not (arm == ORACLE and flaw in NOTHING_SPOILED)


def load(path: Path, *, headline: bool = False, **only: Sequence[Any] | None) -> Grid:
    """Reads a grid.

    Args:
        headline: no more than its `headline` names, where `only` does not say otherwise.
        only: of `arms`, `flaws`, `regimes`, `seeds` and `tuning_seeds`: instead of all in the file.

    Raises:
        ValueError: for unknown names, arms whose numbers of trials differ, and seeds on the wrong side of
            `FIRST_TUNING_SEED`.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if headline:
        only = {**content["headline"], **{name: chosen for name, chosen in only.items() if chosen}}
    default = content["learning_rates"]
    arms = {}
    for name, arm in content["arms"].items():
        tune = arm.get("tune", {})
        combinations = [dict(zip(tune, values, strict=True)) for values in itertools.product(*tune.values())]
        rates = arm.get("learning_rates", default.get(len(combinations)))
        if rates is None:
            raise ValueError(
                f"`arms.{name}.tune` has {len(combinations)} combinations, for which `learning_rates` has no list "
                f"(it has {sorted(default)}): add one there, or `learning_rates` to the arm."
            )
        options = arm["options"]
        data = arm.get("data", Trial.data)
        arms[name] = tuple(Trial(rate, {**options, **some}, data) for some in combinations for rate in rates)
    trials = {name: len(some) for name, some in arms.items()}
    if len(set(trials.values())) > 1:
        raise ValueError(f"`arms` have different numbers of trials, {trials}: give each the same.")
    grid = Grid(
        arms=_chosen("arms", arms, only.get("arms")),
        flaws=tuple(_chosen("flaws", dict.fromkeys(content["flaws"]), only.get("flaws"))),
        regimes=_chosen("regimes", content["regimes"], only.get("regimes")),
        seeds=tuple(only.get("seeds") or content["seeds"]),
        tuning_seeds=tuple(only.get("tuning_seeds") or content["tuning_seeds"]),
        settings=content.get("settings", {}),
    )
    if strange := sorted(set(grid.flaws) - set(FLAWS)):
        raise ValueError(f"`flaws` has {strange}, which flaws.py does not know; known: {sorted(FLAWS)}.")
    if max(grid.seeds) >= FIRST_TUNING_SEED or min(grid.tuning_seeds) < FIRST_TUNING_SEED:
        raise ValueError(
            f"`seeds` are {grid.seeds} and `tuning_seeds` {grid.tuning_seeds}: set the first below "
            f"{FIRST_TUNING_SEED} and the second to that or more, so that no seed both chooses and reports."
        )
    return grid


def _chosen(what: str, known: dict[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    if strange := sorted(set(names or ()) - set(known)):
        raise ValueError(f"`{what}` {strange} are not in the grid; known: {sorted(known)}.")
    return {name: value for name, value in known.items() if not names or name in names}
