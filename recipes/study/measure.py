"""What a model can do: on held-out answers, on other text, on plain facts, and on sums that it works out itself."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from conditions import Encoder, Sample
from items import Items
from torch import Tensor

from sstoken_plugins import Documents, token_forward
from sstoken_plugins.model.head import output_head

FACTS = Path(__file__).with_name("facts.csv")
TOKENS_PER_BATCH = 1024
FINAL_NUMBER = re.compile(r"####\s*(-?[\d,]*\.?\d+)")
DECODED_AT_ONCE = 64


@torch.no_grad()
def score(model: Any, samples: Sequence[Sample]) -> list[tuple[Tensor, Tensor]]:
    """For each sample, of its response tokens: log-probabilities, and whether each was the likeliest token."""
    results: list[Any] = [None] * len(samples)
    training = model.training
    model.eval()
    for numbers in _batches(samples):
        width = max(len(samples[number].row["labels"]) for number in numbers)
        batch = {
            name: torch.tensor(
                [row + [fill] * (width - len(row)) for row in (_row(samples[n])[name] for n in numbers)]
            )
            for name, fill in (("input_ids", 0), ("labels", -100), ("attention_mask", 0))
        }
        inputs = {name: values.to(model.device) for name, values in batch.items()}
        documents = Documents.from_batch(inputs)
        forward = token_forward(model, inputs, documents)
        for row, number in enumerate(numbers):
            response = documents.response[row]
            results[number] = forward.log_probs[row][response].cpu(), forward.values["is_top1"][row][response].cpu()
    model.train(training)
    return results


def _row(sample: Sample) -> dict[str, list[int]]:
    return {**sample.row, "attention_mask": [1] * len(sample.row["labels"])}


def _batches(samples: Sequence[Sample]) -> Iterator[list[int]]:
    """Samples of similar length together."""
    batch: list[int] = []
    for number in sorted(range(len(samples)), key=lambda n: len(samples[n].row["labels"])):
        if batch and (len(batch) + 1) * len(samples[number].row["labels"]) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def answers(model: Any, samples: Sequence[Sample], final: Sequence[int]) -> Items:
    """Of the right answers to held-out questions, for each answer.

    Args:
        final: how many of each response's last tokens are the final number and the end of the answer; 0: none.

    Returns:
        `nll`: mean negative log-likelihood of a token, in nats; `token_accuracy`: how often the right token was the
        likeliest; `tokens`: how many there are; `final_exact`: whether the whole final number was, after the right
        reasoning, of the answers that have one.
    """
    scored = score(model, samples)
    result: Items = {
        "nll": [-log_probs.mean().item() for log_probs, _ in scored],
        "token_accuracy": [best.float().mean().item() for _, best in scored],
        "tokens": [len(log_probs) for log_probs, _ in scored],
    }
    exact = [float(best[-n:].all()) for (_, best), n in zip(scored, final, strict=True) if n]
    if exact:
        result["final_exact"] = exact
    return result


@torch.no_grad()
def facts(model: Any, encoder: Encoder) -> Items:
    """After "The capital of France is": does the right answer begin with the likeliest of all answers' first tokens?

    Of all answers of its kind, capitals or symbols, so guessing finds one in about 40.

    Returns:
        For each fact `facts`: whether it does; `facts_nll`: -log of its share of their probabilities.
    """
    rows = list(csv.DictReader(FACTS.open(encoding="utf-8")))
    first = [encoder.text(f" {row['answer']}")[0] for row in rows]
    prompts = [encoder.text(f"The {row['kind']} of {row['subject']} is") for row in rows]
    width = max(map(len, prompts))
    # Padded on the left, so that the last position is that of the answer.
    ids = torch.tensor([[0] * (width - len(prompt)) + [*prompt] for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    training = model.training
    model.eval()
    hidden = model.get_base_model().model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    logits = output_head(model)(hidden[:, -1]).float().cpu()
    model.train(training)
    found: Items = {"facts": [], "facts_nll": []}
    for row, own, values in zip(rows, first, logits, strict=True):
        candidates = sorted({token for other, token in zip(rows, first, strict=True) if other["kind"] == row["kind"]})
        shares = values[candidates].log_softmax(-1)
        found["facts"].append(float(candidates[int(shares.argmax())] == own))
        found["facts_nll"].append(-shares[candidates.index(own)].item())
    return found


def final_tokens(sample: Sample, encoder: Encoder) -> int:
    """How many tokens of a GSM8K answer come after its `####`, the end of the answer included."""
    marks = set(itertools.chain(encoder.text("####"), encoder.text(" ####"), encoder.text("\n####")))
    last = max((place for place, token in enumerate(sample.response) if token in marks), default=None)
    return 0 if last is None else len(sample.response) - last - 1


def exact_match(model: Any, pairs: Sequence[tuple[str, str]], encoder: Encoder) -> list[float]:
    """Whether each GSM8K question ends in the right number after `####` when the model answers by greedy decoding."""
    said = decode(model, [question for question, _ in pairs], encoder)
    return [float(final_number(answer) == final_number(known)) for answer, (_, known) in zip(said, pairs, strict=True)]


def final_number(answer: str) -> str | None:
    found = FINAL_NUMBER.search(answer)
    return found[1].replace(",", "") if found else None


@torch.no_grad()
def decode(model: Any, questions: Sequence[str], encoder: Encoder, max_new_tokens: int = 256) -> list[str]:
    """The model's likeliest answers, token by token."""
    training = model.training
    model.eval()
    said = []
    for start in range(0, len(questions), DECODED_AT_ONCE):
        prompts = [encoder.prompt(question) for question in questions[start : start + DECODED_AT_ONCE]]
        width = max(map(len, prompts))
        ids = [[encoder.end] * (width - len(prompt)) + [*prompt] for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        answers = model.generate(
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=encoder.end,
            pad_token_id=encoder.end,
        )
        said += [encoder.read(answer[width:]) for answer in answers.tolist()]
    model.train(training)
    return said
