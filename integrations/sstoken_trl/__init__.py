"""ssToken for TRL: `SSTokenSFTTrainer`, `SSTokenSFTConfig` and `sstoken sft` in place of TRL's own."""

from .config import SSTokenSFTConfig
from .trainer import SSTokenSFTTrainer

__all__ = ["SSTokenSFTConfig", "SSTokenSFTTrainer"]
