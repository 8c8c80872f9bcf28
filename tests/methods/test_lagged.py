"""What earlier steps amount to: the same for any cut of a step, close to the exact numbers, and fading."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from sstoken_plugins import SSTokenConfig, TokenSelector, TrainingRun, weighted_nll
from sstoken_plugins.methods.lagged import BINS, MOST_NATS, Lagged

from .. import processes
from ..core.distributed import any_process, gather, make_batch, make_model, summed

WIDTH = MOST_NATS / BINS
ALL = torch.tensor(True)


def losses(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)).abs() * 3


def seen(*steps: torch.Tensor, half_life: float | None = None) -> Lagged:
    lagged = Lagged(0, MOST_NATS, half_life)
    for values in steps:
        lagged.add(values, torch.ones_like(values, dtype=torch.bool))
        lagged.commit(lambda mine: mine)
    return lagged


def test_nothing_seen_is_said_by_the_caller():
    lagged = Lagged(0, MOST_NATS)
    assert lagged.n_seen == 0
    assert lagged.mean(otherwise=3.0) == lagged.deviation(otherwise=3.0) == lagged.quantile(0.5, otherwise=3.0) == 3.0
    assert lagged.rank(torch.zeros(2, 3), otherwise=0.5).tolist() == [[0.5] * 3] * 2


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_numbers_are_exact_to_a_bin(n):
    values = losses(n)
    lagged = seen(values)
    assert lagged.n_seen == n
    assert lagged.mean(0) == pytest.approx(values.mean().item(), abs=WIDTH)
    assert lagged.deviation(0) == pytest.approx(values.std(correction=0).item(), abs=WIDTH)
    for q in (0.05, 0.3, 0.5, 0.6, 0.95):
        below = (values <= lagged.quantile(q, 0) + WIDTH).double().mean().item()
        under = (values < lagged.quantile(q, 0) - WIDTH).double().mean().item()
        assert under <= q + 1e-9
        assert below >= q - 1e-9
    ranks, exact = lagged.rank(values, 0), (values[:, None] > values).double().mean(1)
    assert (ranks - exact).min() >= -2e-3
    assert (ranks - exact).max() <= 1 / n + 2e-3


@pytest.mark.parametrize("n", range(1, 61))
def test_a_quantile_that_ends_at_a_value_is_that_value(n):
    """The median of twelve values is the sixth, not the seventh."""
    lagged = seen(torch.arange(n) / 2.0)
    for k in range(1, n + 1):
        assert lagged.quantile(k / n, 0) == pytest.approx((k - 1) / 2, abs=WIDTH)
        assert lagged.quantile(1 - (n - k) / n, 0) == pytest.approx((k - 1) / 2, abs=WIDTH)


def test_the_cut_of_a_step_does_not_matter():
    values, counted = losses(60), torch.rand(60, generator=torch.Generator().manual_seed(1)) < 0.7
    whole, parts = Lagged(0, MOST_NATS, 3.0), Lagged(0, MOST_NATS, 3.0)
    for _ in range(4):
        whole.add(values, counted)
        for some in torch.randperm(60).split(7):
            parts.add(values[some], counted[some])
        whole.commit(lambda mine: mine)
        parts.commit(lambda mine: mine)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name])


def test_a_step_counts_when_it_is_over():
    lagged = seen(torch.tensor([1.0]))
    lagged.add(torch.tensor([9.0]), ALL[None])
    assert lagged.mean(0) == pytest.approx(1, abs=WIDTH)
    lagged.commit(lambda mine: mine)
    assert lagged.mean(0) == pytest.approx(5, abs=WIDTH)


def test_earlier_steps_fade():
    one, nine = torch.tensor([1.0]), torch.tensor([9.0])
    assert seen(one, nine, half_life=1.0).mean(0) == pytest.approx((0.5 * 1 + 9) / 1.5, abs=WIDTH)
    assert seen(one, *[nine] * 12, half_life=1.0).quantile(0.01, 0) == pytest.approx(9, abs=2 * WIDTH)


def test_what_is_out_of_range_counts_as_the_end():
    assert seen(torch.tensor([-5.0])).quantile(0.5, 9) == pytest.approx(0, abs=WIDTH)
    assert seen(torch.tensor([1e9])).quantile(0.5, 9) == pytest.approx(MOST_NATS, abs=WIDTH)


def test_a_resumed_histogram_goes_on_exactly():
    whole = seen(losses(50), losses(50, seed=1), half_life=5.0)
    resumed = Lagged(0, MOST_NATS, 5.0)
    resumed.load_state_dict(seen(losses(50), half_life=5.0).state_dict())
    resumed.add(losses(50, seed=1), ALL.expand(50))
    resumed.commit(lambda mine: mine)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_anothers_state_is_refused():
    with pytest.raises(ValueError, match="does not hold what `strategy` had seen"):
        Lagged(0, 1).load_state_dict({"histogram": torch.zeros(3), "n_seen": torch.tensor(2)})


STATEFUL = {
    "talr": {},
    "flow": {},
    "cadft": {},
    "loss_truncation": {"hot_start": 6, "drop": 0.5},
    "q_tuning": {"half_life": 3.0},
}


def train(strategy: str, ranks: int, rank: int) -> dict[str, torch.Tensor]:
    """Six steps of four samples, each process with its share of every batch."""
    torch.set_num_threads(1)
    model = make_model(seed=1)
    selector = TokenSelector(SSTokenConfig(strategy=strategy, **STATEFUL[strategy]))
    selector.attach(model, TrainingRun(gather=gather, reduce=summed, any_process=any_process) if ranks > 1 else None)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=0.2)
    for step in range(6):
        share = {name: values.chunk(ranks)[rank] for name, values in make_batch(step % 3).items()}
        denominator = selector.denominator(share)
        if ranks > 1:
            dist.all_reduce(denominator)
        forward, selection = selector.forward(model, share, step)
        weighted_nll(forward.log_probs, selection.weights, denominator).backward()
        for parameter in trained.values():
            if ranks > 1:
                dist.all_reduce(parameter.grad)
        optimizer.step()
        optimizer.zero_grad()
        selector.step_end(step + 1)
    return {**selector.state_dict(), **{name: p.detach() for name, p in trained.items()}}


def worker(rank: int, folder) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=2, init_method=f"file://{folder}/meeting")
    trained = {strategy: train(strategy, 2, rank) for strategy in STATEFUL}
    if rank == 0:
        torch.save(trained, folder / "two.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")
def test_two_processes_are_one(tmp_path):
    context = torch.multiprocessing.spawn(worker, (tmp_path,), nprocs=2, join=False)
    try:
        for _ in range(120):
            if context.join(timeout=5):  # raises what a process raised
                break
        else:
            pytest.fail("the processes wait for each other")
    finally:
        for pid in context.pids():
            processes.end(pid)
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    for strategy in STATEFUL:
        one = train(strategy, 1, 0)
        assert one.keys() == two[strategy].keys()
        for name, value in one.items():
            if name.endswith("n_seen"):
                assert torch.equal(value, two[strategy][name])
            elif not name.endswith("histogram"):
                assert (value - two[strategy][name]).abs().max() < 1e-6, (strategy, name)
