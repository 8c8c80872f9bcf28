"""Scores must not depend on chance: two equal models would differ by more than what is to be measured."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

NEFTUNE = "neftune_noise_alpha"


class Randomness:
    """Every source of chance in a training pass: dropout modules, the rates that attention layers pass to their
    kernels, NEFTune's noise on the embeddings, and the jitter of mixture-of-experts routers.

    `model.eval()` would do more than wanted: it turns gradient checkpointing off, and makes bitsandbytes repack its
    4-bit layers for inference on some CPUs.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._modules = [m for m in model.modules() if (isinstance(m, _DropoutNd) and m.p > 0) or _jitters(m)]
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
        """Whether a training pass depends on chance."""
        return bool(self._modules or self._rates or self._noised_embeddings())

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """While open, a pass in training mode computes what it would without chance."""
        training = [module.training for module in self._modules]
        # The trainer switches NEFTune on when it begins to train, so it is looked for each time.
        rates = [*self._rates, *((vars(module), NEFTUNE) for module in self._noised_embeddings())]
        before = [values[name] for values, name in rates]
        try:
            for module in self._modules:
                module.training = False
            for values, name in rates:
                values[name] = 0.0
            yield
        finally:
            for module, was in zip(self._modules, training, strict=True):
                module.training = was
            for (values, name), rate in zip(rates, before, strict=True):
                values[name] = rate

    def _noised_embeddings(self) -> list[nn.Module]:
        model: Any = self._model
        embeddings = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
        return [embeddings] if isinstance(embeddings, nn.Module) and getattr(embeddings, NEFTUNE, None) else []


def _jitters(module: nn.Module) -> bool:
    """Whether a router multiplies its inputs by random numbers, or samples its experts."""
    if any("jitter" in name and isinstance(value, float) and value > 0 for name, value in vars(module).items()):
        return True
    forward: Any = inspect.unwrap(type(module).forward)
    return "sparsemixer" in getattr(getattr(forward, "__code__", None), "co_names", ())
