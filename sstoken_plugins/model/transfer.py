"""Reading values back from the device without waiting for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def to_host(values: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """The copy, and what to wait with before it is read: until then the device makes it beside its other work."""
    if values.device.type == "cpu":
        return values, lambda: None
    copy = values.to("cpu", non_blocking=True)
    event = torch.get_device_module(values.device).Event()
    event.record()
    return copy, event.synchronize
