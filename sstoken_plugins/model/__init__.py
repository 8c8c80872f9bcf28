"""Reading what a model says of its tokens, without changing what it computes."""

from .attention import PromptAttention
from .forward import TokenForward, UnreadableHead, logits_forward, token_forward, unwrapped
from .head import TokenLogProbs, token_log_probs
from .logits import LogitsChunk

__all__ = [
    "LogitsChunk",
    "PromptAttention",
    "TokenForward",
    "TokenLogProbs",
    "UnreadableHead",
    "logits_forward",
    "token_forward",
    "token_log_probs",
    "unwrapped",
]
