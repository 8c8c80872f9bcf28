"""Every option, validated and documented once; the integrations expose this class, they do not repeat it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .refusal import refuse

_TRIMMED = ("trimmed", "sstoken_trimmed", "grounded")


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class SSTokenConfig:
    """How the tokens to train on are chosen. The defaults are those of ssToken (arXiv 2510.18250).

        rel   = log p_current - log p_history                             (retrospective excess loss)
        score = gamma * minmax(rel) + (1 - gamma) * attention_to_prompt   (per document, over its response tokens)
        keep the k best response tokens of each document, k the smallest count with k / n >= rho

    Raises:
        Refused: a ValueError that names the field, its value and the way out, for all values that can never work.
    """

    strategy: str = _option(
        "sstoken",
        "Which tokens train: 'sstoken', 'sstoken_trimmed' (the same, but never noise, see `trim`), 'trimmed' (all but "
        "noise), 'grounded' (the same, without answers that their prompt makes no likelier), 'signal' (the best rho "
        "by the one signal named in `signal`), 'random', 'full', or the name a plugin registered.",
    )
    rho: float = _option(0.6, "Fraction of each sample's response tokens that trains, in (0, 1].")
    gamma: float = _option(
        0.5,
        "Weight of the retrospective excess loss in the score, in [0, 1]; the attention to the prompt gets the rest.",
    )
    trim: float = _option(
        0.1,
        "Strategies 'trimmed', 'sstoken_trimmed' and 'grounded' take a token for noise if it gets at most this many "
        "times the probability of a uniform guess over the vocabulary.",
    )
    trim_by: str = _option(
        "history",
        "Whose probability that is: that of the 'history', or of the 'current' model (no extra forward pass).",
    )
    history: str = _option(
        "base",
        "The earlier self that tokens are compared with: 'base' (the trained adapter switched off), 'adapter' (a "
        "frozen adapter, see `history_adapter`), 'snapshot' (the trained adapter a while ago, see `refresh_steps`), "
        "'ema' (its moving average, see `ema_alpha`), 'recorded' (computed once before training, see "
        "`history_store`), 'last_visit' (the model when it last saw the sample, see `first_visit`), or the name a "
        "plugin registered.",
    )
    history_adapter: str | None = _option(
        None, "Folder of the PEFT adapter that history 'adapter' uses, or that 'recorded' records instead of the base."
    )
    refresh_steps: float = _option(
        0.25, "History 'snapshot' is renewed every so many optimizer steps; below 1: every such fraction of an epoch."
    )
    ema_alpha: float = _option(
        0.99, "History 'ema' keeps this fraction of itself at each optimizer step and takes the rest from the model."
    )
    history_store: str | None = _option(
        None, "Folder of the log-probabilities that history 'recorded' reads; `sstoken record` fills it."
    )
    history_record: bool = _option(
        False, "Record what `history_store` lacks of the training data before the first step."
    )
    history_strict: bool = _option(
        False, "Stop if a sample is not in `history_store`, instead of computing its history while training."
    )
    first_visit: str = _option(
        "attention",
        "What history 'last_visit' does with a sample it has not seen yet: 'attention' (the score is the attention "
        "alone) or 'base' (it is compared with the base model, for one more forward pass).",
    )
    attention_layer: int = _option(-1, "Layer whose attention to the prompt is read; negative counts from the last.")
    loss: str = _option(
        "auto",
        "Where the loss over the kept tokens comes from: 'own' (the same forward pass that gives the scores), "
        "'framework' (scores come from a pass of their own, dropped tokens lose their label, and the framework "
        "computes its own loss; one more forward pass), or 'auto' ('own' wherever it can; the log says where not).",
    )
    rel_warmup_steps: int = _option(
        0, "Optimizer steps during which the score is the attention alone (gamma counts as 0)."
    )
    signal: str | None = _option(None, "Name of the signal that strategy 'signal' ranks by.")
    seed: int = _option(0, "Seed of strategy 'random'.")
    report_steps: int = _option(
        0,
        "Every so many optimizer steps, write a page that shows the tokens selected in a few training samples, into "
        "`sstoken-report` in the output folder. Each costs the scoring of `report_samples` samples. 0: none.",
    )
    report_samples: int = _option(50, "How many training samples `report_steps` shows.")
    options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Options for strategies, signals and histories of plugins."}
    )

    def __post_init__(self) -> None:
        refuse(self._problems())

    def _problems(self) -> Iterator[str]:
        if not 0 < self.rho <= 1:
            yield (
                f"`rho` is {self.rho}, but it is the fraction of response tokens that trains: set it in (0, 1], for "
                "example 0.6 (1.0 trains on all of them)."
            )
        if not 0 <= self.gamma <= 1:
            yield (
                f"`gamma` is {self.gamma}, but it weighs the retrospective excess loss against the attention to the "
                "prompt: set it in [0, 1], for example 0.5 (1.0 is the excess loss alone, 0.0 the attention alone)."
            )
        if not 0 < self.trim < math.inf:
            yield (
                f"`trim` is {self.trim}, but it is the probability below which a token is noise, in multiples of a "
                "uniform guess: set it above 0, for example 0.1 (smaller drops less)."
            )
        if self.trim_by not in ("history", "current"):
            yield f"`trim_by` is {self.trim_by!r}: set it to 'history' or 'current'."
        if self.rel_warmup_steps < 0:
            yield f"`rel_warmup_steps` is {self.rel_warmup_steps}, but it counts steps: set it to 0 or more."
        if self.loss not in ("auto", "own", "framework"):
            yield f"`loss` is {self.loss!r}: set it to 'auto', 'own' or 'framework'."
        if self.report_steps < 0 or self.report_samples < 1:
            yield (
                f"`report_steps` is {self.report_steps} and `report_samples` is {self.report_samples}: set the first "
                "to a number of optimizer steps, or to 0 for no reports, and the second to 1 or more."
            )
        yield from self._problems_of_history()
        if self.strategy == "signal" and not self.signal:
            yield "`strategy` is 'signal' but `signal` is not set: set it to the name of a signal."
        if self.signal and self.strategy in ("sstoken", *_TRIMMED):
            yield (
                f"`signal` is {self.signal!r} but `strategy` is {self.strategy!r}, which reads signals of its own and "
                "would ignore it: set `strategy` to 'signal', or remove `signal`."
            )

    def _problems_of_history(self) -> Iterator[str]:
        if self.history == "adapter" and not self.history_adapter:
            yield (
                "`history` is 'adapter' but `history_adapter` is not set: set it to the folder of the earlier adapter "
                "(the one with adapter_config.json and adapter_model.safetensors)."
            )
        if self.history == "recorded" and not self.history_store:
            yield (
                "`history` is 'recorded' but `history_store` is not set: set it to a folder, and fill it with "
                "`sstoken record` or by setting `history_record` to True."
            )
        if self.history_adapter and self.history in ("base", "snapshot", "ema", "last_visit"):
            yield (
                f"`history_adapter` is {self.history_adapter!r} but `history` is {self.history!r}, which would ignore "
                "it: set `history` to 'adapter', or remove `history_adapter`."
            )
        if self.history_store and self.history in ("base", "adapter", "snapshot", "ema", "last_visit"):
            yield (
                f"`history_store` is {self.history_store!r} but `history` is {self.history!r}, which would ignore it: "
                "set `history` to 'recorded', or remove `history_store`."
            )
        if self.refresh_steps <= 0 or (self.refresh_steps > 1 and self.refresh_steps != int(self.refresh_steps)):
            yield (
                f"`refresh_steps` is {self.refresh_steps}: set it to a whole number of optimizer steps, such as 100, "
                "or to a fraction of an epoch, such as 0.25."
            )
        if not 0 <= self.ema_alpha < 1:
            yield (
                f"`ema_alpha` is {self.ema_alpha}, but it is the fraction of the average that stays at each step: set "
                "it in [0, 1), for example 0.99."
            )
        if self.first_visit not in ("attention", "base"):
            yield f"`first_visit` is {self.first_visit!r}: set it to 'attention' or 'base'."

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def summary(self) -> str:
        """One line that says what was chosen, for banners and logs."""
        shown = [f"strategy={self.strategy}"]
        if self.strategy not in ("full", "trimmed", "grounded"):
            shown.append(f"rho={self.rho:g}")
        if self.strategy in ("sstoken", "sstoken_trimmed"):
            shown.append(f"gamma={self.gamma:g}")
        if self.strategy in _TRIMMED:
            shown.append(f"trim={self.trim:g} (by the {self.trim_by})")
        if self.signal:
            shown.append(f"signal={self.signal}")
        if self._may_read_history():
            details = {
                "snapshot": f"refresh_steps={self.refresh_steps:g}",
                "ema": f"ema_alpha={self.ema_alpha:g}",
                "recorded": self.history_store,
                "last_visit": f"first_visit={self.first_visit}",
            }
            detail = [value for value in (details.get(self.history), self.history_adapter) if value]
            shown.append(f"history={self.history}" + (f" ({', '.join(detail)})" if detail else ""))
        if self.rel_warmup_steps:
            shown.append(f"rel_warmup_steps={self.rel_warmup_steps}")
        if self.options:
            shown.append(f"options={self.options}")
        return ", ".join(shown)

    def _may_read_history(self) -> bool:
        if self.strategy in ("sstoken", "sstoken_trimmed") and self.gamma > 0:
            return True
        if self.strategy in ("trimmed", "sstoken_trimmed"):
            return self.trim_by == "history"
        return self.strategy not in ("full", "random", "sstoken")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name nobody registered."""
    return ValueError(
        f"`{kind}` is {name!r}, which is not registered. Known: {', '.join(sorted(known))}. A plugin adds its own "
        "when its package is installed in this environment."
    )
