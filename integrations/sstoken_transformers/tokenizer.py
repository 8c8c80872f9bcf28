"""Which tokenizer made the samples?"""

from __future__ import annotations

import hashlib
import json
from typing import Any


def fingerprint(processing_class: Any) -> str | None:
    """A hash of the vocabulary; None where there is none to see."""
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    if not hasattr(tokenizer, "get_vocab"):
        return None
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()
