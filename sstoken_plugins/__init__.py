"""Train on the tokens that matter: selecting and weighting tokens in fine-tuning, ssToken (arXiv 2510.18250) first.

On tensors, in any training loop: `select_tokens`, or its parts `Documents`, `retrospective_excess_loss`, `minmax`,
`sstoken_score`, `keep_count`, `keep_best` and `weighted_nll`.

On a model: `PromptAttention` and `token_log_probs` read the signals, `TokenSelector` does the whole of it.

Extending: `hookimpl`, `option`, and the classes `Method`, `RankedMethod`, `Signal`, `HeadStatistic`, `TrainingPass`,
`OwnPass`, `History` and `LiveHistory` to derive from; `hookspecs` says how.
"""

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
