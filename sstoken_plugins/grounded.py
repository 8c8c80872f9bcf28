"""Answers to another question left out: those that their prompt makes no likelier do not train.

The paper asks whether a token attends to its prompt. In short chats, a wrong prompt gets as much attention as a right
one; what tells the right one is that it helps to predict the answer. Both halves of that comparison come from the
history model, so that what is learned does not change what is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .documents import IGNORE_INDEX, Documents
from .forward import OWN_ENTRIES
from .hookspecs import hookimpl
from .selection import TokenScores
from .signals import Signal
from .strategies import Strategy
from .trimmed import Trimmed

HEADER = 4
"""How many tokens stay of what stands before an answer: where most chat formats say that one begins."""

# Derived from `position_ids` by transformers if they are missing, and wrong once tokens are taken out.
_LENGTHS = frozenset(("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"))


@dataclass(frozen=True)
class Unprompted:
    """A batch without its prompts: every row has what is left of it in front, and padding behind.

    Attributes:
        inputs: for the model, (B, W) with W the most that is left of a row.
        documents: with the same numbers as before.
    """

    inputs: dict[str, Any]
    documents: Documents
    _places: Tensor

    def back(self, values: Tensor) -> Tensor:
        """Values (B, W) of this batch at the places (B, S) where their tokens were; any value off the response."""
        return values.gather(1, self._places.clamp(max=values.shape[1] - 1))


def headers(documents: Documents) -> Tensor:
    """The last `HEADER` prompt tokens before each stretch of response: (B, S) bool."""
    ids, response = documents.ids, documents.response
    near = torch.zeros_like(response)
    for distance in range(1, min(HEADER, ids.shape[1] - 1) + 1):
        near[:, :-distance] |= response[:, distance:] & (ids[:, distance:] == ids[:, :-distance])
    return near & documents.prompt


def without_prompts(inputs: Mapping[str, Any], documents: Documents) -> Unprompted:
    """Takes every document's prompt out of the batch, up to its `headers`.

    Padded rows, packed rows and padding-free rows stay what they are. The host waits for the device once, for the
    width.

    Raises:
        ValueError: naming an entry of `inputs` of which nobody knows what to do with it.
    """
    stays = documents.response | headers(documents)
    order = (~stays).to(torch.uint8).argsort(dim=1, stable=True)  # in their order, those that stay first
    counting = torch.arange(order.shape[1], device=order.device).expand_as(order)
    places = torch.empty_like(order).scatter_(1, order, counting)
    width = max(1, int(stays.sum(1).max()))
    order = order[:, :width]
    left = stays.gather(1, order)

    def taken(values: Tensor, otherwise: int) -> Tensor:
        return torch.where(left, values.expand_as(stays).gather(1, order), otherwise)

    remaining = Documents(
        ids=taken(documents.ids, -1),
        prompt=taken(documents.prompt, 0).bool(),
        response=taken(documents.response, 0).bool(),
        places=None if documents.places is None else _moved(documents.places, places, width),
    )
    otherwise = {"labels": IGNORE_INDEX, "attention_mask": 0}
    kept: dict[str, Any] = {}
    for name, value in inputs.items():
        if name.startswith(OWN_ENTRIES) or name in _LENGTHS or not isinstance(value, Tensor) or value.dim() == 0:
            continue
        if name == "position_ids":
            # A trailing 0 begins a document of its own, to the layouts that tell documents by their positions.
            kept[name] = torch.where(left, remaining.positions, 0)
        elif value.shape == stays.shape:
            kept[name] = taken(value, otherwise.get(name, 0))
        else:
            raise ValueError(
                f"The batch has an entry {name!r} of shape {tuple(value.shape)}: signal 'prompt_gain' cannot take "
                "prompts out of that. Choose a strategy that does not read it, such as 'trimmed'."
            )
    if "position_ids" not in kept and "attention_mask" not in kept:
        kept["attention_mask"] = left.long()  # rows of one length no longer are
    return Unprompted(kept, remaining, places)


def _moved(flat: Tensor, places: Tensor, width: int) -> Tensor:
    rows = flat // places.shape[1]
    return rows * width + places.flatten()[flat]


class PromptGain(Signal):
    """`log(p_h(y | prompt, before) + 1/V) - log(p_h(y | before) + 1/V)`: how much the prompt helps with the token.

    In nats, under the history model; V is the size of the vocabulary. The `1/V`, a uniform guess, keeps a random token
    from outweighing all others. 0 in a document that has nothing in front of its header.
    """

    needs = frozenset({"history", "unprompted"})

    def __call__(self, scores: TokenScores) -> Tensor:
        assert scores.history_log_probs is not None  # granted by `needs`
        assert scores.unprompted_log_probs is not None
        guess = scores.history_log_probs.new_tensor(-math.log(scores.vocabulary))
        gain = scores.history_log_probs.logaddexp(guess) - scores.unprompted_log_probs.logaddexp(guess)
        documents = scores.documents
        taken_out = (documents.prompt & ~headers(documents)).flatten().to(gain)
        n_taken_out = torch.zeros_like(taken_out).index_add_(0, documents.ids.clamp(min=0).flatten(), taken_out)
        return torch.where(documents.spread(n_taken_out) > 0, gain, 0)


class Grounded(Trimmed):
    """Every token with `p > trim / V`, of every document whose `prompt_gain` is not negative in sum.

    The sum is the log of a likelihood ratio: this answer with its prompt, against the same answer without one. Where
    it is negative, the prompt speaks against the answer. Everything else is as in `trimmed`.
    """

    def signals(self, step: int) -> Sequence[str]:
        return [*super().signals(step), "prompt_gain"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        gain = documents.spread(documents.sum(signals["prompt_gain"]))
        return super().weights(signals, documents, step) * (gain >= 0)


@hookimpl
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    register("prompt_gain", PromptGain)


@hookimpl
def register_strategies(register: Callable[[str, type[Strategy]], None]) -> None:
    register("grounded", Grounded)
