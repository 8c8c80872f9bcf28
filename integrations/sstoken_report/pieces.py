"""The text of every single token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream


def pieces(processing_class: Any, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text of a sample. A character of several tokens stands with the last of them, and
    the others have ''; what is no text at all is '\N{REPLACEMENT CHARACTER}'."""
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [tokenizer.decode([token]) for token in ids]
    texts, stream = [], DecodeStream(skip_special_tokens=False)
    for token in ids:
        try:
            text = stream.step(backend, token)
        except Exception:  # the library's own class: text that changes with what follows it
            text, stream = tokenizer.decode([token]), DecodeStream(skip_special_tokens=False)
        texts.append(text or "")
    if texts and not texts[-1]:
        texts[-1] = "\N{REPLACEMENT CHARACTER}"  # the sample was cut in the middle of a character
    return texts
