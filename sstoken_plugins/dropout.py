"""Scores must not depend on dropout: two equal adapters would differ by more than what is to be measured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd


class Dropout:
    """Every source of dropout in a model: modules, and the rates that attention layers pass to their kernels.

    `model.eval()` would do more than wanted: it turns gradient checkpointing off, and makes bitsandbytes repack its
    4-bit layers for inference on some CPUs.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [m for m in model.modules() if isinstance(m, _DropoutNd) and m.p > 0]
        self._rates: list[tuple[dict[str, Any], str]] = []
        holders = {id(h): h for m in model.modules() for h in (m, getattr(m, "config", None)) if h is not None}
        for holder in holders.values():
            if isinstance(holder, _DropoutNd):
                continue
            values = vars(holder) if hasattr(holder, "__dict__") else {}
            for name, value in values.items():
                is_rate = "dropout" in name or "layerdrop" in name or name.endswith("pdrop")
                if is_rate and type(value) is float and value > 0:
                    self._rates.append((values, name))

    @property
    def active(self) -> bool:
        """Whether a training pass drops anything."""
        return bool(self._modules or self._rates)

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        training = [module.training for module in self._modules]
        rates = [values[name] for values, name in self._rates]
        try:
            for module in self._modules:
                module.training = False
            for values, name in self._rates:
                values[name] = 0.0
            yield
        finally:
            for module, was in zip(self._modules, training, strict=True):
                module.training = was
            for (values, name), rate in zip(self._rates, rates, strict=True):
                values[name] = rate
