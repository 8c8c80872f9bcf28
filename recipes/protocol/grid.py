"""What is run at a scale: arms, conditions and seeds, from a YAML file; and each arm's equal share of tuning."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cell import FLAWED, NOTHING, SOUND, TRUSTED, Cell
from conditions import MAKERS

FIRST_TUNING_SEED = 1000
"""Seeds from here on only choose; those below it only report."""
UNKNOWN_FLAWS = ("unrated", "own")
NO_FLAWS = ("rated",)


@dataclass(frozen=True)
class Grid:
    """The plan. `arms` has, for each arm, the fields of its `Cell` and its learning rates."""

    arms: dict[str, tuple[dict[str, Any], tuple[float, ...]]]
    conditions: tuple[str, ...]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    settings: dict[str, Any]
    tuning_settings: dict[str, Any]  # instead of these, for the cells that choose

    def tuning(self) -> Iterator[Cell]:
        """All learning rates of all arms, on validation items; none where an arm has one."""
        for seed in self.tuning_seeds:
            for condition in self.conditions:
                for arm in self.needed(condition):
                    rates = self.arms[arm][1]
                    for rate in rates if len(rates) > 1 else ():
                        yield self.cell(arm, condition, seed, rate, "validation")

    def final(self, chosen: Mapping[tuple[str, str], float]) -> Iterator[Cell]:
        """The cells that report: all arms of a seed and condition before the next, of conditions that are tuned."""
        for seed in self.seeds:
            for condition in self.conditions:
                arms = self.needed(condition)
                if all((condition, arm) in chosen for arm in arms):
                    for arm in arms:
                        yield self.cell(arm, condition, seed, chosen[condition, arm], "test")

    def needed(self, condition: str) -> list[str]:
        """The arms that a condition has: none on sound data where no flaw is known, or on trusted where none are."""
        without = {SOUND} if condition in (*UNKNOWN_FLAWS, *NO_FLAWS) else set()
        if condition == "own":
            without.add(TRUSTED)
        return [arm for arm, (fields, _) in self.arms.items() if not without & _trains_on(fields)]

    def cell(self, arm: str, condition: str, seed: int, rate: float, split: str) -> Cell:
        tuned = self.tuning_settings if seed in self.tuning_seeds else {}
        fields = {**self.settings, **tuned, **self.arms[arm][0]}
        share = fields.pop("warmup_share", None)
        if share is not None:
            steps = fields["samples"] / (fields.get("batch", Cell.batch) * fields.get("accumulation", 1))
            fields["options"] = {**fields["options"], "rel_warmup_steps": math.ceil(share * steps)}
        return Cell(arm, condition, seed, learning_rate=rate, split=split, **fields)

    def choose(self, results: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
        """By condition and arm the learning rate with the best `score` over the tuning seeds; only of arms that are
        wholly tuned."""
        scores: dict[Any, list[tuple[float, float]]] = defaultdict(list)
        for result in results:
            cell = result["cell"]
            if cell["split"] == "validation" and cell["seed"] in self.tuning_seeds:
                scores[cell["condition"], cell["arm"], cell["learning_rate"]].append(score(result))
        chosen = {}
        for condition in self.conditions:
            for arm in self.needed(condition):
                rates = self.arms[arm][1]
                of = [scores[condition, arm, rate] for rate in rates]
                if len(rates) == 1:
                    chosen[condition, arm] = rates[0]
                elif all(len(some) == len(self.tuning_seeds) for some in of):
                    means = [tuple(sum(values) / len(values) for values in zip(*some, strict=True)) for some in of]
                    chosen[condition, arm] = rates[max(range(len(rates)), key=means.__getitem__)]
        return chosen

    def budget(self) -> str:
        trials = max(len(rates) for _, rates in self.arms.values())
        return (
            f"Tuning: {trials} learning rate(s) for each of {len(self.arms)} arms and each condition, with seeds "
            f"{list(self.tuning_seeds)} (from {FIRST_TUNING_SEED} on, none reports), on validation items."
        )


def _trains_on(fields: Mapping[str, Any]) -> set[str]:
    return {fields["data"], *(value for value in fields["options"].values() if value == TRUSTED)}


def primary(result: Mapping[str, Any]) -> list[float]:
    """The items of the new skill that decide: whether the right answer is preferred to a wrong one, where wrong ones
    are known, else the share of its tokens that are the likeliest."""
    skill = result["skill"]
    items: list[float] = skill["prefers"] or skill["accuracy"]
    return items


def score(result: Mapping[str, Any]) -> tuple[float, float]:
    """What is compared, in this order: the skill in steps of 2 points, and how likely the gold choices of the tasks
    are (the tempered loss of the skill where there are no tasks)."""
    items = primary(result)
    gold = [value for task in result["abilities"].values() for value in task["gold"]]
    second = gold or [-value for value in result["skill"]["loss_tempered"]]
    return round(sum(items) / len(items) * 50) / 50, sum(second) / len(second)


def load(path: Path, scale: str, **only: Sequence[Any] | None) -> Grid:
    """Reads a grid.

    Args:
        scale: a name under `scales`.
        only: of `arms`, `conditions` and `seeds`: instead of the scale's.

    Raises:
        ValueError: for unknown names, and seeds on the wrong side of `FIRST_TUNING_SEED`.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if scale not in content["scales"]:
        raise ValueError(f"`scale` is {scale!r}; {path} has {list(content['scales'])}.")
    plan = content["scales"][scale]
    rates = tuple(plan["learning_rates"])
    names = only.get("arms") or plan.get("arms") or list(content["arms"])
    conditions = only.get("conditions") or plan["conditions"]
    if strange := sorted({*names} - {*content["arms"]}):
        raise ValueError(f"`arms` {strange} are not in the grid; known: {sorted(content['arms'])}.")
    if strange := sorted({*conditions} - {*MAKERS, "own"}):
        raise ValueError(f"`conditions` {strange} are not known; known: {sorted([*MAKERS, 'own'])}.")
    arms = {}
    for name in names:
        fields = {"data": FLAWED, **content["arms"][name]}
        lower = fields.pop("lower", 1)
        arms[name] = (fields, rates[:1] if fields["data"] == NOTHING else tuple(rate / lower for rate in rates))
    grid = Grid(
        arms=arms,
        conditions=tuple(conditions),
        seeds=tuple(only.get("seeds") or plan["seeds"]),
        tuning_seeds=tuple(content["tuning_seeds"]),
        settings=plan["settings"],
        tuning_settings=plan.get("tuning", {}),
    )
    if max(grid.seeds) >= FIRST_TUNING_SEED or min(grid.tuning_seeds) < FIRST_TUNING_SEED:
        raise ValueError(
            f"`seeds` are {grid.seeds} and `tuning_seeds` {grid.tuning_seeds}: set the first below "
            f"{FIRST_TUNING_SEED} and the second to that or more, so that no seed both chooses and reports."
        )
    return grid
