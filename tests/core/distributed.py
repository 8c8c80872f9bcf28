"""A training on one process, or on two that share every batch, by torch and the core alone."""

from __future__ import annotations

import time
from pathlib import Path

import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from sstoken_plugins import SSTokenConfig, TokenSelector, TrainingRun, weighted_nll

from .. import processes
from .tiny import VOCABULARY, tiny

STEPS, BATCHES = 6, 3
STRANGERS = (1, 4)
"""Steps in which the last row, which the second process has, is of a sample that nobody has seen before. In step 1,
DDP builds its buckets anew."""


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


def batch_of(step: int, strangers: bool) -> dict[str, torch.Tensor]:
    batch = make_batch(step % BATCHES)
    if strangers and step in STRANGERS:
        other = make_batch(100 + step)
        batch = {name: torch.cat([values[:3], other[name][3:]]) for name, values in batch.items()}
    return batch


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


def train(config: SSTokenConfig, wrapping: str = "none", rank: int = 0, strangers: bool = False):
    """Two epochs of three steps.

    Args:
        wrapping: "none" on one process; "ddp" or "fsdp" on two, each with its share of every batch.

    Returns:
        The trained weights, and the passes of this process in every step: whether each was with gradient, and whether
        it went through the wrapper.
    """
    torch.set_num_threads(1)
    ranks = 1 if wrapping == "none" else 2
    model = make_model(seed=1)
    if wrapping == "ddp":  # which gives every process the weights of the first one
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data.mul_(1 + rank)
    selector = TokenSelector(config)
    together = TrainingRun(gather=gather, reduce=summed, any_process=any_process)
    selector.attach(model, together if ranks > 1 else None)
    if config.history == "recorded":
        recorder = selector.recorder()
        for number in range(BATCHES):
            selector.record(model, make_batch(number), recorder)
        selector.history.store.flush()
        selector.history.refresh()
    wrapped = model
    if wrapping == "fsdp":
        for layer in model.base_model.model.model.layers:
            fully_shard(layer)
        fully_shard(model)
    if wrapping == "ddp":
        wrapped = DistributedDataParallel(model)
    passes: list[list[tuple[str, bool]]] = []

    def watch(which):
        return lambda *_: passes[-1].append((which, torch.is_grad_enabled()))

    model.get_input_embeddings().register_forward_hook(watch("model"))
    if wrapped is not model:
        wrapped.register_forward_hook(watch("wrapper"))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for step in range(STEPS):
        passes.append([])
        share = {name: values.chunk(ranks)[rank] for name, values in batch_of(step, strangers).items()}
        denominator = selector.denominator(share)
        if ranks > 1:
            dist.all_reduce(denominator)
        forward, selection = selector.forward(wrapped, share, step)
        loss = weighted_nll(forward.log_probs, selection.weights, denominator)
        (loss * ranks).backward()  # the wrappers take the mean over processes
        optimizer.step()
        optimizer.zero_grad()
        selector.step_end(step + 1)
    full = {name: getattr(p, "full_tensor", lambda p=p: p)() for name, p in model.named_parameters()}
    return {name: weight.detach() for name, weight in full.items() if "lora_" in name}, passes


def worker(rank: int, config: SSTokenConfig, folder: Path, wrapping: str, strangers: bool) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=2, init_method=f"file://{folder}/meeting")
    trained, passes = train(config, wrapping, rank, strangers)
    everyones = gather(passes)
    if rank == 0:
        torch.save((trained, everyones), folder / "two.pt")
    dist.barrier()  # gloo aborts a process that is left while another still talks to it
    dist.destroy_process_group()


def train_in_two_processes(config: SSTokenConfig, folder: Path, wrapping: str, strangers: bool = False):
    """The trained weights, and the passes of both processes."""
    context = torch.multiprocessing.spawn(worker, (config, folder, wrapping, strangers), nprocs=2, join=False)
    deadline = time.monotonic() + 300
    try:
        while not context.join(timeout=5):  # raises what a process raised
            assert time.monotonic() < deadline, "the processes wait for each other"
    finally:
        for pid in context.pids():
            processes.end(pid)
    return torch.load(folder / "two.pt", weights_only=True)
