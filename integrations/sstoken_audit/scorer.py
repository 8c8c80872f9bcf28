"""Asks the model: log-probability and entropy of every response token of some samples."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sstoken_plugins import Documents, token_forward
from sstoken_plugins.model.logits import entropy as entropy_of

from .errors import AuditError
from .layout import Rows, keeps_samples_apart, packed, padded, row_tokens
from .passes import TokenScores
from .samples import Tokens


class Scorer:
    """Runs a model over samples without gradient: packed into rows without padding where the model keeps samples in a
    row apart, and else one in each row, batched by length.

    Args:
        model: a causal language model, on its device.
        batch_tokens: the most tokens of a pass, padding included; a longer sample has a pass of its own.
        autocast: "no", "bf16" or "fp16".

    Attributes:
        packs: whether samples share rows.
        vocabulary: size of the model's.
    """

    def __init__(self, model: Any, batch_tokens: int, autocast: str = "no") -> None:
        self._model, self._batch_tokens, self._autocast = model.eval(), batch_tokens, autocast
        text_config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        self.vocabulary = int(text_config.vocab_size)
        with self._precision():
            self.packs = keeps_samples_apart(model)

    def score(self, samples: Sequence[Tokens], entropy: bool = True) -> list[TokenScores]:
        """One `TokenScores` for each sample, in their order."""
        lengths = [len(sample.ids) for sample in samples]
        found: dict[int, TokenScores] = {}
        if self.packs:
            passes = packed(lengths, row_tokens(self._model, self._batch_tokens), self._batch_tokens)
        else:
            passes = padded(lengths, self._batch_tokens)
        for rows in passes:
            found |= self._pass(samples, rows, entropy)
        return [found[i] for i in range(len(samples))]

    @torch.no_grad()
    def _pass(self, samples: Sequence[Tokens], rows: Rows, entropy: bool) -> dict[int, TokenScores]:
        inputs = {name: value.to(self._model.device) for name, value in self._inputs(samples, rows).items()}
        statistics = {"entropy": entropy_of} if entropy else {}
        with self._precision():
            forward = token_forward(self._model, inputs, Documents.from_batch(inputs), statistics=statistics)
        log_probs = forward.log_probs.float().cpu().numpy()
        entropies = forward.values["entropy"].float().cpu().numpy() if entropy else log_probs
        return {
            i: TokenScores(
                log_probs[row, begin : begin + len(samples[i].ids)][samples[i].response],
                entropies[row, begin : begin + len(samples[i].ids)][samples[i].response],
            )
            for i, row, begin in _places(samples, rows)
        }

    def _inputs(self, samples: Sequence[Tokens], rows: Rows) -> dict[str, Tensor]:
        """(B, S) each. In packed rows positions begin anew with every sample, and every token that
        fills a row is one of its own, without response; else padding is masked."""
        width = max(2, *(sum(len(samples[i].ids) for i in row) for row in rows))
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        labels = torch.full_like(ids, -100)
        positions, mask = torch.zeros_like(ids), torch.zeros_like(ids)
        for i, row, begin in _places(samples, rows):
            sample, end = samples[i], begin + len(samples[i].ids)
            ids[row, begin:end] = torch.from_numpy(sample.ids)
            labels[row, begin:end] = torch.where(torch.from_numpy(sample.response), ids[row, begin:end], -100)
            mask[row, begin:end] = 1
            positions[row, begin:end] = torch.arange(end - begin)
        if int(ids.max()) >= self.vocabulary:
            raise AuditError(
                f"The data hold token {int(ids.max())}, and the model knows {self.vocabulary}: they were tokenised "
                "for another model, or for one whose vocabulary was enlarged."
            )
        beside = {"position_ids": positions} if self.packs else {"attention_mask": mask}
        return {"input_ids": ids, "labels": labels, **beside}

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        if self._autocast == "no":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self._autocast == "bf16" else torch.float16
        return torch.autocast(self._model.device.type, dtype=dtype)


def _places(samples: Sequence[Tokens], rows: Rows) -> Iterator[tuple[int, int, int]]:
    """Number, row and first token of each sample."""
    for number, row in enumerate(rows):
        begins = itertools.accumulate((len(samples[i].ids) for i in row), initial=0)
        yield from ((i, number, begin) for i, begin in zip(row, begins, strict=False))
