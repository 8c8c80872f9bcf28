"""What a model can do: exact match by greedy decoding, loss as it is and at its best temperature, and REL's aim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from flaws import Sample
from scipy.optimize import minimize_scalar
from scipy.stats import rankdata
from skills import END, PAD, VOCABULARY, Item
from torch import Tensor

NUMBER = {word: i for i, word in enumerate(VOCABULARY)}


def numbers(words: Sequence[str]) -> list[int]:
    return [NUMBER[word] for word in words]


@torch.no_grad()
def exact(model: Any, items: Sequence[Item]) -> list[bool]:
    """Whether the model's likeliest answer, token by token, is the right one to its end: all items in one batch."""
    prompts = [numbers(item.prompt) for item in items]
    width = max(map(len, prompts))
    ids = torch.tensor([[NUMBER[PAD]] * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    said = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max(len(item.answer) for item in items) + 1,
        do_sample=False,
        eos_token_id=NUMBER[END],
        pad_token_id=NUMBER[PAD],
    )[:, width:].tolist()
    wanted = [[*numbers(item.answer), NUMBER[END]] for item in items]
    return [answer[: len(right)] == right for answer, right in zip(said, wanted, strict=True)]


@torch.no_grad()
def log_probs(model: Any, rows: Sequence[tuple[Sequence[str], Sequence[str]]]) -> tuple[Tensor, Tensor]:
    """Of (prompt, response) in words: the log-probabilities (T, V) at all response tokens, and the tokens (T,)."""
    tokens = [numbers((*prompt, *response)) for prompt, response in rows]
    width = max(map(len, tokens))
    ids = torch.tensor([row + [NUMBER[PAD]] * (width - len(row)) for row in tokens])
    predicts = torch.zeros(ids.shape, dtype=torch.bool)  # whether the next token is one of the response
    for row, (prompt, response) in enumerate(rows):
        predicts[row, len(prompt) - 1 : len(prompt) + len(response) - 1] = True
    logits = model(input_ids=ids.to(model.device), use_cache=False).logits.float().cpu()
    return logits[predicts].log_softmax(-1), ids.roll(-1, 1)[predicts]


def answers(items: Sequence[Item]) -> list[tuple[Sequence[str], Sequence[str]]]:
    return [(item.prompt, (*item.answer, END)) for item in items]


def nll(scores: Tensor, tokens: Tensor, temperature: float = 1.0) -> float:
    """Mean of -log p in nats, where p is the softmax of the log-probabilities divided by the temperature."""
    return float(torch.nn.functional.cross_entropy(scores / temperature, tokens))


def best_temperature(scores: Tensor, tokens: Tensor) -> float:
    """The temperature in [0.05, 20] with the lowest `nll`."""
    found = minimize_scalar(
        lambda log_t: nll(scores, tokens, math.exp(log_t)), bounds=(math.log(0.05), math.log(20)), method="bounded"
    )
    return math.exp(found.x)


def label_log_probs(model: Any, samples: Sequence[Sample]) -> Tensor:
    """(T,) log-probabilities of all response tokens of the samples, one sample after the other."""
    scores, tokens = log_probs(model, [(sample.prompt, sample.response) for sample in samples])
    return scores.gather(1, tokens[:, None])[:, 0]


def auc(values: Sequence[float] | Tensor, spoiled: Sequence[bool] | Tensor) -> float | None:
    """The chance that a sound token has a higher value than a spoiled one, ties half: below 0.5, picking the highest
    picks what is spoiled. None if all tokens are of one kind."""
    values, spoiled = torch.as_tensor(values).double(), torch.as_tensor(spoiled)
    n_spoiled, n_sound = int(spoiled.sum()), int((~spoiled).sum())
    if not n_spoiled or not n_sound:
        return None
    ranks = torch.from_numpy(rankdata(values.numpy()))
    return float((ranks[~spoiled].sum() - n_sound * (n_sound + 1) / 2) / (n_spoiled * n_sound))
