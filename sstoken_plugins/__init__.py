"""Train on the tokens that matter: selecting and weighting tokens in fine-tuning, ssToken (arXiv 2510.18250) first.

On tensors, in any training loop: `select_tokens`, or its parts `Documents`, `retrospective_excess_loss`, `minmax`,
`sstoken_score`, `keep_count`, `keep_best` and `weighted_nll`.

On a model: `PromptAttention` and `token_log_probs` read the signals, `TokenSelector` does the whole of it.

Extending: `hookimpl`, `option`, and the classes `Method`, `RankedMethod`, `Signal`, `HeadStatistic`, `TrainingPass`,
`OwnPass`, `History` and `LiveHistory` to derive from; `hookspecs` says how.

Names are imported when they are used: `import sstoken_plugins` alone does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import SSTokenConfig, all_options
    from .data import BatchIndex, Counts, Documents, MicroBatch, Progress
    from .errors import Problem, Refused
    from .histories import History, LiveHistory, Stored, TrainingRun
    from .markers import hookimpl
    from .measure import Column, HeadStatistic, Measurement, Measurements, OwnPass, Passes, TrainingPass
    from .methods import Method, RankedMethod, RhoOptions, Selection
    from .methods.base import Controls
    from .methods.ranking import keep_best, keep_count, minmax
    from .methods.sstoken import select_tokens, sstoken_score
    from .model import LogitsChunk, PromptAttention, TokenForward, TokenLogProbs, token_forward, token_log_probs
    from .options import NoOptions, Option, option
    from .run.loss import weighted_nll
    from .run.selector import TokenSelector
    from .signals import Signal
    from .signals.builtin import retrospective_excess_loss

__version__ = "0.2.0"

__all__ = [
    "BatchIndex",
    "Column",
    "Controls",
    "Counts",
    "Documents",
    "HeadStatistic",
    "History",
    "LiveHistory",
    "LogitsChunk",
    "Measurement",
    "Measurements",
    "Method",
    "MicroBatch",
    "NoOptions",
    "Option",
    "OwnPass",
    "Passes",
    "Problem",
    "Progress",
    "PromptAttention",
    "RankedMethod",
    "Refused",
    "RhoOptions",
    "SSTokenConfig",
    "Selection",
    "Signal",
    "Stored",
    "TokenForward",
    "TokenLogProbs",
    "TokenSelector",
    "TrainingPass",
    "TrainingRun",
    "all_options",
    "hookimpl",
    "keep_best",
    "keep_count",
    "minmax",
    "option",
    "retrospective_excess_loss",
    "select_tokens",
    "sstoken_score",
    "token_forward",
    "token_log_probs",
    "weighted_nll",
]

_HOMES = {
    ".config": "SSTokenConfig all_options",
    ".data": "BatchIndex Counts Documents MicroBatch Progress",
    ".errors": "Problem Refused",
    ".histories": "History LiveHistory Stored TrainingRun",
    ".markers": "hookimpl",
    ".measure": "Column HeadStatistic Measurement Measurements OwnPass Passes TrainingPass",
    ".methods": "Method RankedMethod RhoOptions Selection",
    ".methods.base": "Controls",
    ".methods.ranking": "keep_best keep_count minmax",
    ".methods.sstoken": "select_tokens sstoken_score",
    ".model": "LogitsChunk PromptAttention TokenForward TokenLogProbs token_forward token_log_probs",
    ".options": "NoOptions Option option",
    ".run.loss": "weighted_nll",
    ".run.selector": "TokenSelector",
    ".signals": "Signal",
    ".signals.builtin": "retrospective_excess_loss",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Importing torch takes seconds, and a command line's help should not wait for it."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
