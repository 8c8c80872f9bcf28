"""The same few documents in every layout that a collator makes."""

from __future__ import annotations

import torch

from .tiny import VOCABULARY

LAYOUTS = ("right", "left", "packed", "padding-free")


def documents():
    """Of each the tokens, and which of them are the response: one turn, two turns, a short prompt, and no prompt."""
    generator = torch.Generator().manual_seed(2)
    turns = ([9, 6], [7, 3, 8, 4], [3, 5], [1, 6], [12, 5])
    found = []
    for lengths in turns:
        tokens = torch.randint(3, VOCABULARY, (sum(lengths),), generator=generator).tolist()
        response = [turn % 2 == 1 for turn, length in enumerate(lengths) for _ in range(length)]
        found.append((tokens, response))
    return found


def laid_out(layout, some=None):
    """A batch of these documents, in their order."""
    some = documents() if some is None else some
    if layout == "padding-free":
        # As a padding-free collator has it: the last document is padding that nobody marks.
        return _packed([some], 2)
    if layout == "packed":
        return _packed([some[: (len(some) + 1) // 2], some[(len(some) + 1) // 2 :]] if len(some) > 1 else [some], 1)
    width = max(len(tokens) for tokens, _ in some) + 2

    def padded(row, fill):
        padding = [fill] * (width - len(row))
        return padding + row if layout == "left" else row + padding

    return {
        "input_ids": torch.tensor([padded(tokens, 0) for tokens, _ in some]),
        "attention_mask": torch.tensor([padded([1] * len(tokens), 0) for tokens, _ in some]),
        "labels": torch.tensor([padded(_labels(document), -100) for document in some]),
    }


def _packed(rows, padding):
    width = max(sum(len(tokens) for tokens, _ in row) for row in rows) + padding

    def filled(values, fill):
        return values + fill[: width - len(values)]

    nothing, counting = [0] * width, list(range(width))
    return {
        "input_ids": torch.tensor([filled([t for tokens, _ in row for t in tokens], nothing) for row in rows]),
        "labels": torch.tensor([filled([t for document in row for t in _labels(document)], [-100] * width)
                                for row in rows]),
        "position_ids": torch.tensor([filled([i for tokens, _ in row for i in range(len(tokens))], counting)
                                      for row in rows]),
    }  # fmt: skip


def _labels(document):
    return [token if trains else -100 for token, trains in zip(*document, strict=True)]
