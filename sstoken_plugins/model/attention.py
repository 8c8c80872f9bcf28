"""How much of its attention each token pays to the prompt, read from the kernel the model runs on."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Documents
from ..errors import Refused, refused


class PromptAttention:
    """Reads the attention mass on the prompt in one layer, in any forward pass of the model.

    The naive equivalent, with the softmax weights (B, H, S, S) of that layer:

        mass = (weights * prompt[:, None, None, :]).sum(-1).mean(1)

    Attention is linear in its values: the same kernel, called once more with the indicator of the prompt as value,
    gives exactly this sum. It costs O(S) memory and one attention call, works under SDPA, FlashAttention,
    FlexAttention and eager attention, with grouped heads, sliding windows, soft-capping and sinks, and the model's own
    call is untouched.

    Args:
        model: a transformers (or PEFT) causal language model.
        layer: which layer, negative from the last one.

    Raises:
        Refused: if the layer does not exist or has no softmax attention that can be read.
    """

    def __init__(self, model: Any, layer: int = -1) -> None:
        layers = attention_layers(model)
        name = type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__
        if not layers:
            raise _unreadable(name)
        indices = sorted(layers)
        if layer == -1:
            layer = indices[-1]
        count = _layer_count(model, indices)
        index = layer + count if layer < 0 else layer
        if index not in layers:
            exists = 0 <= index < count
            raise refused(
                "{attention_layer} is {layer}, but "
                + ("that layer of {name} has no softmax attention" if exists else "{name} has {count} layers")
                + ": choose one of {indices}, or -1 for the last of them.",
                layer=layer,
                name=name,
                count=count,
                indices=indices,
            )
        self.module: Any = layers[index]
        self._namespace = _namespace(self.module)

    @contextlib.contextmanager
    def record(self, documents: Documents) -> Iterator[list[Tensor]]:
        """While open, a forward pass records the mass on the prompts of `documents`: 0 for those without one.

        Only the forward pass itself records: gradient checkpointing runs the layer again in backward, with this
        closed.

        Yields:
            A list that holds one (B, S) float32 tensor after the forward pass. Rows of padding are meaningless.
        """
        from transformers import modeling_utils

        prompt = documents.question

        # A forward that another library put in its place may import both where it runs.
        functions = self._namespace.get("ALL_ATTENTION_FUNCTIONS", modeling_utils.ALL_ATTENTION_FUNCTIONS)
        implementation = self.module.config._attn_implementation or "eager"
        registered = functions.get(implementation)
        own_module = vars(sys.modules[type(self.module).__module__])
        attend = registered or {**own_module, **self._namespace}["eager_attention_forward"]
        recorded: list[Tensor] = []

        def recording(
            module: nn.Module,
            query: Tensor,
            key: Tensor,
            value: Tensor,
            attention_mask: Any,
            *args: Any,
            **kwargs: Any,
        ) -> Any:
            output = attend(module, query, key, value, attention_mask, *args, **kwargs)
            if module is self.module and not recorded:
                with torch.no_grad():
                    indicator = prompt[:, None, :, None].to(value).expand_as(value).contiguous()
                    kwargs = {**kwargs, "dropout": 0.0}
                    mass = attend(module, query.detach(), key.detach(), indicator, attention_mask, *args, **kwargs)[0]
                    recorded.append(mass[..., 0].float().mean(2))
            return output

        functions[implementation] = recording
        try:
            yield recorded
        finally:
            # Uncovers what is registered for all of transformers, so that later registrations stay effective here.
            del functions[implementation]
            if functions.get(implementation) is not registered:
                functions[implementation] = registered


def attention_layers(model: Any) -> dict[int, nn.Module]:
    """The self-attention modules that go through transformers' attention interface, by layer index.

    Of a model that sees or hears, those of its language model.
    """
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    language = whole.get_decoder() if hasattr(whole, "get_decoder") else whole
    found: dict[int, nn.Module] = {}
    for module in (language if isinstance(language, nn.Module) else whole).modules():
        index = getattr(module, "layer_idx", None)
        reads_interface = hasattr(getattr(module, "config", None), "_attn_implementation")
        if isinstance(index, int) and reads_interface and _namespace(module):
            found[index] = module
    return found


def _namespace(module: nn.Module) -> dict[str, Any]:
    """The globals of a module's forward, if that picks its kernel from transformers' attention interface; else none.

    A hybrid model has layers of linear attention beside it, in the same file and under similar names.
    """
    forward: Any = inspect.unwrap(type(module).forward)
    return forward.__globals__ if _goes_through_the_interface(type(module)) else {}


def _goes_through_the_interface(kind: type[nn.Module]) -> bool:
    forward: Any = inspect.unwrap(kind.forward)
    return "ALL_ATTENTION_FUNCTIONS" in getattr(getattr(forward, "__code__", None), "co_names", ())


def _unreadable(name: str) -> Refused:
    return refused(
        "{attention_layer}: {name} does not run its attention through transformers' attention interface, so the "
        "attention to the prompt cannot be read. Set {gamma} to 1 to select by the excess loss alone.",
        name=name,
    )


def _layer_count(model: Any, indices: list[int]) -> int:
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    return max(getattr(config, "num_hidden_layers", 0) or 0, indices[-1] + 1)


def refuse_unreadable_attention(models: Sequence[type[nn.Module]]) -> None:
    """Finds out by the classes of a model, before it is made, whether its attention can be read.

    Args:
        models: the class of the whole, and those of its parts that are defined elsewhere.

    Raises:
        Refused: if no module where they are defined goes through transformers' attention interface.
    """
    beside = [each for model in models for each in vars(sys.modules[model.__module__]).values()]
    kinds = [each for each in beside if isinstance(each, type) and issubclass(each, nn.Module)]
    if kinds and not any(_goes_through_the_interface(each) for each in kinds):
        raise _unreadable(models[0].__name__)
