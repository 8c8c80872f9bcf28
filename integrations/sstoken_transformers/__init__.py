"""Token selection for any `transformers.Trainer`; the TRL and Axolotl integrations build on it."""

from .checkpoints import newest_whole_checkpoint
from .data import require_prompts
from .trainer import SSTokenTrainerMixin, with_token_selection
from .unsupported import refuse_unsupported

__all__ = [
    "SSTokenTrainerMixin",
    "newest_whole_checkpoint",
    "refuse_unsupported",
    "require_prompts",
    "with_token_selection",
]
