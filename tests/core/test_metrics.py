"""Means over all processes, whoever recorded what."""

from __future__ import annotations

import pytest
import torch

from sstoken_plugins.run.metrics import Metrics


def drained(*processes: Metrics) -> list[dict[str, float]]:
    """What each process logs, in turns: their calls are matched one by one, as collectives are."""
    names = [[(name, -1) for name in sorted(metrics._sums)] for metrics in processes]
    sums: list[torch.Tensor] = []
    # The first round finds what each would contribute, the second hands out the total.
    for metrics in processes:
        before = dict(metrics._sums)
        metrics.drain(reduce=lambda mine: sums.append(mine) or mine, gather=lambda mine: names)
        metrics._sums = before
    assert len({mine.shape for mine in sums}) <= 1, "processes would reduce tensors of different shapes"
    total = sum(sums)
    return [metrics.drain(reduce=lambda mine: total, gather=lambda mine: names) for metrics in processes]


def recording(**values: tuple[float, float]) -> Metrics:
    metrics = Metrics()
    for name, (total, count) in values.items():
        metrics.record(name, torch.tensor(total), torch.tensor(count))
    return metrics


def test_what_one_process_alone_records_is_not_mixed_up_with_another_metric():
    """Such as an observer that records only when something rare happens."""
    first = recording(keep_rate=(6.0, 10.0), rare=(2.0, 4.0))
    second = recording(a_first=(9.0, 3.0), keep_rate=(2.0, 10.0))
    third = recording()
    expected = {"sstoken/keep_rate": pytest.approx(0.4), "sstoken/rare": 0.5, "sstoken/a_first": 3.0}
    for logged in drained(first, second, third):
        assert logged == expected
    assert first.drain() == {}


def test_alone_it_needs_nobody():
    metrics = recording(keep_rate=(6.0, 10.0), nothing=(0.0, 0.0))
    metrics.record("keep_rate", torch.tensor(0.0), torch.tensor(10.0))
    assert metrics.drain() == {"sstoken/keep_rate": 0.3}
