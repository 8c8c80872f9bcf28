"""What a method makes of made-up losses and entropies over many steps is what plain Python makes of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sstoken_plugins import MicroBatch, SSTokenConfig, TokenSelector

from .steps import REMEMBERING
from .test_methods import select

LONGEST = 10


def samples(n: int, step: int, generator: torch.Generator) -> tuple[MicroBatch, dict[str, torch.Tensor]]:
    """Samples of 1 to 10 response tokens, one in a row, that become easier."""
    labels = torch.full((n, 2 + LONGEST), 5)
    labels[:, :2] = -100
    labels[torch.arange(2 + LONGEST) >= 3 + torch.randint(0, LONGEST, (n, 1), generator=generator)] = -100
    hard, unsure = 0.95**step * torch.rand(2, n, 1, generator=generator)
    loss = 6 * hard + torch.rand(labels.shape, generator=generator)
    entropy = 4 * (0.7 * hard + 0.3 * unsure) + torch.rand(labels.shape, generator=generator)
    signals = {"loss": loss, "entropy": entropy, "log_prob": -loss, "history_log_prob": -loss}
    return MicroBatch.of({"input_ids": labels.clamp(min=0), "labels": labels}), signals


def answer(loss, entropy):
    return SimpleNamespace(nll=loss, entropy=entropy, p=(-loss).exp(), log_q=-loss, positions=range(len(loss)))


@pytest.mark.parametrize("exact", [False, True], ids=["by bins", "exact"])
@pytest.mark.parametrize("n", [1, 2, 7], ids="{} a step".format)
@pytest.mark.parametrize("method", REMEMBERING)
def test_the_memory_is_that_of_plain_python(method, n, exact):
    case = REMEMBERING[method]
    ours, theirs = TokenSelector(SSTokenConfig(strategy=method, **case.options)).method, case.loss(exact=exact)
    generator = torch.Generator().manual_seed(n)
    for step in range(12):
        batch, signals = samples(n, step, generator)
        weights, response = select(ours, batch, signals, step), batch.documents.response
        answers = [answer(signals["loss"][i, response[i]], signals["entropy"][i, response[i]]) for i in range(n)]
        for i, each in enumerate(answers):
            expected = torch.as_tensor(theirs.weight(each)).expand(len(each.nll))
            torch.testing.assert_close(weights[i, response[i]], expected, rtol=3e-3 if exact else 1e-5, atol=1e-6)
        theirs.remember(answers)
