"""Another adapter, or none, for the length of a forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn


class AdapterSwitch:
    """Sets what adapter layers run on, and nothing else.

    PEFT's own switches visit every module of the model and set `requires_grad` of every parameter, back and forth in
    each micro-batch: 36 ms for 30 layers, in which a GPU has nothing to do. A pass without gradient needs none of it.

    Args:
        model: a PEFT model.
    """

    def __init__(self, model: Any) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper

        layers = [
            module for module in model.modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
        ]
        # Some kinds do more than to look at the two attributes below: those are left to PEFT.
        simple = all(
            getattr(type(layer), "enable_adapters", None) is BaseTunerLayer.enable_adapters for layer in layers
        )
        self._layers: list[nn.Module] | None = layers if simple else None

    @contextlib.contextmanager
    def off(self, model: Any) -> Iterator[None]:
        """While open, the model has no adapter."""
        if self._layers is not None:
            with self._set("_disable_adapters", True):
                yield
            return
        with _trainable_as_before(model), model.disable_adapter():
            yield

    @contextlib.contextmanager
    def to(self, model: Any, name: str) -> Iterator[None]:
        """While open, the model has another of its adapters."""
        if self._layers is not None:
            with self._set("_active_adapter", [name]):
                yield
            return
        trained = model.active_adapter
        with _trainable_as_before(model):
            try:
                model.base_model.set_adapter(name, inference_mode=True)
                yield
            finally:
                model.base_model.set_adapter(trained)

    @contextlib.contextmanager
    def _set(self, attribute: str, value: Any) -> Iterator[None]:
        assert self._layers is not None
        before = [getattr(layer, attribute) for layer in self._layers]
        try:
            for layer in self._layers:
                setattr(layer, attribute, value)
            yield
        finally:
            for layer, was in zip(self._layers, before, strict=True):
                setattr(layer, attribute, was)


@contextlib.contextmanager
def _trainable_as_before(model: nn.Module) -> Iterator[None]:
    """PEFT makes the whole active adapter trainable again, parts that the user had frozen included."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        yield
    finally:
        restore_trainable(model, trainable)


def restore_trainable(model: nn.Module, trainable: list[nn.Parameter]) -> None:
    """Makes exactly these parameters require gradients."""
    wanted = {id(parameter) for parameter in trainable}
    for parameter in model.parameters():
        if parameter.requires_grad != (id(parameter) in wanted):
            parameter.requires_grad_(id(parameter) in wanted)


def has_adapter(model: Any) -> bool:
    """Whether it is a PEFT model."""
    return hasattr(model, "peft_config") and hasattr(model, "disable_adapter")


def adapter_has_learned(model: Any) -> bool:
    """Whether switching the adapter off would change the model: some LoRA B matrix is not zero."""
    return any(
        bool(parameter.detach().count_nonzero())
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not parameter.is_meta and ("lora_B" in name or "lora_embedding_B" in name)
    )


def base_weights(model: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters below any adapter, under the names they have without one."""
    model, adapters = _below(model)
    yield from _plain_names(model.named_parameters(), adapters)


def base_buffers(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The same of the buffers that are saved with a model, such as the routing biases of some experts."""
    model, adapters = _below(model)
    kept = (
        (f"{prefix}.{name}" if prefix else name, buffer)
        for prefix, module in model.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name not in module._non_persistent_buffers_set
    )
    yield from _plain_names(kept, adapters)


def _below(model: Any) -> tuple[Any, set[str]]:
    return (model.get_base_model(), set(model.peft_config)) if has_adapter(model) else (model, set())


def _plain_names(named: Iterable[tuple[str, Any]], adapters: set[str]) -> Iterator[tuple[str, Any]]:
    for name, tensor in named:
        parts = name.split(".")
        if adapters.isdisjoint(parts):
            yield ".".join(part for part in parts if part not in ("base_layer", "original_module")), tensor
