"""Weights that several processes share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn


def several_processes() -> bool:
    """Whether this is one of several processes that train together."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def gathered(*parameters: Tensor) -> AbstractContextManager[Any]:
    """While open, parameters that DeepSpeed ZeRO-3 has partitioned are whole; all processes must open it together.

    It partitions a model already while that is loaded. Others shard when training begins, and are left alone.
    """
    partitioned = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not partitioned:
        return contextlib.nullcontext()
    import deepspeed

    opened: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(partitioned)
    return opened


@torch.no_grad()
def whole(parameters: Iterable[Any]) -> list[Tensor]:
    """Each parameter's value; that of a sharded one is put together, which all processes must do at the same time.

    None is a copy unless it had to be put together.
    """
    values = []
    for parameter in parameters:
        if _is_sharded(parameter):
            values.append(parameter.detach().full_tensor())
        elif hasattr(parameter, "ds_id"):
            with gathered(parameter):
                values.append(parameter.detach().clone())
        else:
            values.append(parameter.detach())
    return values


@contextlib.contextmanager
def replaced(model: nn.Module, values: Iterable[tuple[Any, Tensor]]) -> Iterator[None]:
    """While open, the parameters have other values, which are given whole and on every process.

    No weight is copied where a process has all of it: the parameter only points elsewhere. Where it has a part, that
    part is overwritten, since what puts the parts together knows it by its memory. Nothing is sent either way.
    """
    with contextlib.ExitStack() as stack:
        values = list(values)
        if any(_is_sharded(parameter) for parameter, _ in values):
            stack.enter_context(_resharded(model))
        for parameter, value in values:
            if _is_sharded(parameter):
                stack.enter_context(_overwritten(parameter.to_local(), _shard(value, parameter)))
            elif hasattr(parameter, "ds_id"):
                stack.enter_context(_partition_replaced(parameter, value))
            else:
                stack.enter_context(_pointing_at(parameter, value))
        yield


def _is_sharded(parameter: Tensor) -> bool:
    """Whether it is a DTensor, as of FSDP2."""
    return hasattr(parameter, "full_tensor")


def _shard(value: Tensor, parameter: Any) -> Tensor:
    """The part of a whole value that belongs to this process, cut as DTensors are."""
    mesh = parameter.device_mesh
    for size, place, placement in zip(mesh.shape, mesh.get_coordinate(), parameter.placements, strict=True):
        if placement.is_shard():
            parts = value.chunk(size, placement.dim)
            value = parts[place] if place < len(parts) else value.narrow(placement.dim, 0, 0)
    return value


@contextlib.contextmanager
def _resharded(model: nn.Module) -> Iterator[None]:
    """What FSDP2 has put together may stay so for a later pass: it must not survive a change of the parts."""
    from torch.distributed.fsdp import FSDPModule

    modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
    try:
        for module in modules:
            module.reshard()
        yield
    finally:
        for module in modules:
            module.reshard()


@contextlib.contextmanager
def _overwritten(part: Tensor, value: Tensor) -> Iterator[None]:
    part = part.detach()  # as nothing that is differentiated
    before = part.clone()
    part.copy_(value)
    try:
        yield
    finally:
        part.copy_(before)


@contextlib.contextmanager
def _pointing_at(parameter: nn.Parameter, value: Tensor) -> Iterator[None]:
    before = parameter.data
    parameter.data = value
    try:
        yield
    finally:
        parameter.data = before


@contextlib.contextmanager
def _partition_replaced(parameter: Any, value: Tensor) -> Iterator[None]:
    """The same for ZeRO-3: the part, and the whole of a small parameter that is kept whole."""
    if parameter.ds_secondary_tensor is not None:
        raise RuntimeError("The history cannot take the place of weights of which ZeRO++ keeps a second partition.")
    part = parameter.ds_tensor
    begin = torch.distributed.get_rank(parameter.ds_process_group) * part.numel()
    own = value.flatten()[begin : begin + part.numel()]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_overwritten(part.view(-1)[: own.numel()], own))
        if parameter.ds_persist and _is_whole(parameter):
            stack.enter_context(_pointing_at(parameter, value))
        else:
            # What was put together for one pass may be kept for the next, which has other values.
            _part_again(parameter)
            stack.callback(_part_again, parameter)
        yield


def _part_again(parameter: Any) -> None:
    if _is_whole(parameter):
        parameter.partition()


def _is_whole(parameter: Any) -> bool:
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    return bool(parameter.ds_status == ZeroParamStatus.AVAILABLE)
