"""How well the model answers held-out questions of its new skill: for each item, so that items can be drawn anew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from conditions import Example
from torch import Tensor

from sstoken_plugins.model.head import output_head

TOKENS_AT_ONCE = 1024
TEMPERATURES = tuple(math.exp(step / 5) for step in range(-2, 5))
CHOOSING = 32
"""Validation items that choose the temperature."""


def tokens_of(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], int]:
    """The tokens of a question and its answer as TRL makes them of a conversation, and how many are the question's."""
    asked = [{"role": "user", "content": prompt}]
    both = [*asked, {"role": "assistant", "content": answer}]
    start = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=True, return_dict=False)
    ids = tokenizer.apply_chat_template(both, tokenize=True, return_dict=False)
    return ids, len(start)


@torch.no_grad()
def scores(
    model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]], temperatures: Sequence[float] = (1.0,)
) -> list[tuple[Tensor, Tensor]]:
    """Of each (prompt, answer), over the answer's n tokens:

    (n, T)  log p(token) at each of the temperatures
    (n,)    1 where the token was the likeliest, else 0
    """
    encoded = [tokens_of(tokenizer, *pair) for pair in pairs]
    found: list[Any] = [None] * len(pairs)
    for numbers in _batches([len(ids) for ids, _ in encoded]):
        width = max(len(encoded[n][0]) for n in numbers)
        ids = torch.tensor([encoded[n][0] + [0] * (width - len(encoded[n][0])) for n in numbers])
        mask = torch.tensor([[1] * len(encoded[n][0]) + [0] * (width - len(encoded[n][0])) for n in numbers])
        # The head is the greater part of a small model: it is applied to the answers alone.
        predicts = torch.zeros(ids.shape, dtype=torch.bool)
        for row, n in enumerate(numbers):
            predicts[row, encoded[n][1] - 1 : len(encoded[n][0]) - 1] = True
        inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
        hidden = model.get_base_model().model(**inputs, use_cache=False).last_hidden_state
        logits = output_head(model)(hidden[predicts.to(model.device)]).float()
        labels = ids.roll(-1, 1)[predicts][:, None].to(model.device)
        log_probs = torch.cat([(logits / t).log_softmax(-1).gather(1, labels) for t in temperatures], dim=1).cpu()
        likeliest = (logits.argmax(-1, keepdim=True) == labels)[:, 0].float().cpu()
        lengths = predicts.sum(1).tolist()
        for n, *own in zip(numbers, log_probs.split(lengths), likeliest.split(lengths), strict=True):
            found[n] = tuple(own)
    return found


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Items of similar length together."""
    batch: list[int] = []
    for n in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[n] > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def skill(model: Any, tokenizer: Any, choosing: Sequence[Example], held_out: Sequence[Example]) -> dict[str, Any]:
    """Lists with a number for each held-out question, in their order:

    loss            mean of -log p over the tokens of the right answer, in nats
    loss_tempered   the same at that of `TEMPERATURES` which is best for `choosing`
    accuracy        share of these tokens that were the likeliest, after the right ones before them
    prefers         1 where the right answer has a higher mean log p than the wrong one; of those that have a wrong
    """
    at_all = scores(model, tokenizer, _pairs(choosing[:CHOOSING]), TEMPERATURES)
    temperature = TEMPERATURES[int(torch.cat([log_probs for log_probs, _ in at_all]).mean(0).argmax())]
    right = scores(model, tokenizer, _pairs(held_out), (1.0, temperature))
    compared = [n for n, one in enumerate(held_out) if one.wrong is not None]
    wrong = scores(model, tokenizer, [(held_out[n].prompt, held_out[n].wrong or "") for n in compared])
    return {
        "loss": [_rounded(-log_probs[:, 0].mean()) for log_probs, _ in right],
        "loss_tempered": [_rounded(-log_probs[:, 1].mean()) for log_probs, _ in right],
        "accuracy": [_rounded(likeliest.mean()) for _, likeliest in right],
        "prefers": [
            float(right[n][0][:, 0].mean() > log_probs.mean())
            for n, (log_probs, _) in zip(compared, wrong, strict=True)
        ],
        "temperature": temperature,
    }


def _pairs(examples: Sequence[Example]) -> list[tuple[str, str]]:
    return [(one.prompt, one.answer) for one in examples]


def _rounded(value: Tensor) -> float:
    return round(float(value), 5)
