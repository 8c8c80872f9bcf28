"""Weights that several processes share."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor


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
