"""Token selection for any `transformers.Trainer`; the TRL and Axolotl integrations build on it."""

from .trainer import SSTokenTrainerMixin, with_token_selection
from .unsupported import refuse_unsupported

__all__ = ["SSTokenTrainerMixin", "refuse_unsupported", "with_token_selection"]
