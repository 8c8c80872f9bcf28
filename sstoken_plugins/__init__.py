"""Train on the tokens that matter: token selection for fine-tuning, after ssToken (arXiv 2510.18250).

On tensors, in any training loop: `select_tokens`, or its parts `Documents`, `retrospective_excess_loss`, `minmax`,
`sstoken_score`, `keep_count`, `keep_best` and `weighted_nll`.

On a model: `PromptAttention` and `token_log_probs` read the signals, `TokenSelector` does the whole of it.

Extending: `hookimpl`, and the classes `Signal`, `History`, `LiveHistory` and `Strategy` to derive from; `hookspecs`
says how.
"""

from .attention import PromptAttention
from .config import SSTokenConfig
from .documents import Documents
from .forward import TokenForward, token_forward
from .head import TokenLogProbs, token_log_probs
from .histories import History, LiveHistory, TrainingRun
from .hookspecs import hookimpl
from .scores import (
    keep_best,
    keep_count,
    minmax,
    retrospective_excess_loss,
    select_tokens,
    sstoken_score,
    weighted_nll,
)
from .selection import Selection, TokenScores
from .selector import TokenSelector
from .signals import Signal
from .strategies import Strategy

__version__ = "0.1.0"

__all__ = [
    "Documents",
    "History",
    "LiveHistory",
    "PromptAttention",
    "SSTokenConfig",
    "Selection",
    "Signal",
    "Strategy",
    "TokenForward",
    "TokenLogProbs",
    "TokenScores",
    "TokenSelector",
    "TrainingRun",
    "hookimpl",
    "keep_best",
    "keep_count",
    "minmax",
    "retrospective_excess_loss",
    "select_tokens",
    "sstoken_score",
    "token_forward",
    "token_log_probs",
    "weighted_nll",
]
