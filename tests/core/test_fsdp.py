"""Real FSDP2 in two processes on a CPU, which accelerate does not offer: torch's `fully_shard` and the core alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch.distributed.fsdp import fully_shard

from sstoken_plugins import SSTokenConfig, TokenSelector, TrainingRun, weighted_nll

from .. import processes
from .tiny import VOCABULARY, tiny


def make_model(seed: int):
    torch.manual_seed(seed)
    model = get_peft_model(tiny("llama"), LoraConfig(r=4, target_modules="all-linear")).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def make_batch(number: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, VOCABULARY, (4, 14), generator=torch.Generator().manual_seed(number))
    labels = ids.clone()
    labels[:, :5], labels[1, :8] = -100, -100
    return {"input_ids": ids, "labels": labels}


def gather(mine):
    everyones = [None] * dist.get_world_size()
    dist.all_gather_object(everyones, mine)
    return everyones


def summed(mine):
    total = mine.clone()
    dist.all_reduce(total)
    return total


def any_process(mine):
    return any(gather(mine))


def train(config: SSTokenConfig, ranks: int, rank: int) -> dict[str, torch.Tensor]:
    """Two epochs of three steps, each process with its share of every batch."""
    torch.set_num_threads(1)
    model = make_model(seed=1)
    selector = TokenSelector(config)
    selector.attach(model, TrainingRun(gather=gather, reduce=summed, any_process=any_process) if ranks > 1 else None)
    if config.history == "recorded":
        recorder = selector.recorder()
        for number in range(3):
            selector.record(model, make_batch(number), recorder)
        selector.history.store.flush()
        selector.history.refresh()
    if ranks > 1:
        for layer in model.base_model.model.model.layers:
            fully_shard(layer)
        fully_shard(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for step in range(6):
        share = {name: values.chunk(ranks)[rank] for name, values in make_batch(step % 3).items()}
        denominator = selector.denominator(share)
        if ranks > 1:
            dist.all_reduce(denominator)
        forward, selection = selector.forward(model, share, step)
        loss = weighted_nll(forward.log_probs, selection.weights, denominator)
        (loss * ranks).backward()  # FSDP takes the mean over processes
        optimizer.step()
        optimizer.zero_grad()
        selector.step_end(step + 1)
    full = {name: getattr(p, "full_tensor", lambda p=p: p)() for name, p in model.named_parameters()}
    return {name: weight.detach() for name, weight in full.items() if "lora_" in name}


def worker(rank: int, config: SSTokenConfig, folder: Path) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=2, init_method=f"file://{folder}/meeting")
    trained = train(config, ranks=2, rank=rank)
    if rank == 0:
        torch.save(trained, folder / "two.pt")
    dist.destroy_process_group()


def train_in_two_processes(config: SSTokenConfig, folder: Path) -> None:
    context = torch.multiprocessing.spawn(worker, (config, folder), nprocs=2, join=False)
    deadline = time.monotonic() + 180
    try:
        while not context.join(timeout=5):  # raises what a process raised
            assert time.monotonic() < deadline, "the processes wait for each other"
    finally:
        for pid in context.pids():
            processes.end(pid)


@pytest.mark.slow
@pytest.mark.parametrize("history", ["base", "adapter", "recorded", "last_visit"])
def test_sharded_is_whole(tmp_path, history):
    options = {"history_adapter": str(tmp_path / "earlier")} if history == "adapter" else {}
    if history == "adapter":
        make_model(seed=2).save_pretrained(tmp_path / "earlier")
    if history == "recorded":
        options = {"history_store": str(tmp_path / "store"), "history_record": True}
    config = SSTokenConfig(history=history, **options)
    one = train(config, ranks=1, rank=0)
    train_in_two_processes(config, tmp_path)
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    assert one.keys() == two.keys()
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-6


@pytest.mark.slow
def test_copies_do_not_follow_shards(tmp_path):
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="cannot follow weights sharded by FSDP"):
        train_in_two_processes(SSTokenConfig(history="snapshot"), tmp_path)
