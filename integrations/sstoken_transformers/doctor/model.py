"""What the model's architecture says, without its weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.quantizers import AutoHfQuantizer

from sstoken_plugins import TokenSelector, TrainingRun

from .diagnosis import DataFacts, Diagnosis, ModelFacts


def skeleton(config: Any, dtype: torch.dtype | None, attention: str | None, found: Diagnosis) -> Any:
    """The model on the meta device, where tensors have shapes and no values."""

    def build(**options: Any) -> Any:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=dtype or config.dtype or torch.float32, **options)

    if not attention:
        return build()
    # A kernel that is missing is a problem, and the rest can be looked at with another.
    plain, config = config, copy.deepcopy(config)
    with found.looking_at(f"`attn_implementation` {attention!r}"):
        return build(attn_implementation=attention)
    config = plain
    return build(attn_implementation="eager")


def examine_model(
    model: Any, selector: TokenSelector | None, tokenizer: str | None, folder: str | None, found: Diagnosis
) -> None:
    """Attaches the selection to the skeleton, as a training does to the model; after the data were counted.

    Args:
        folder: of the training's output.
    """
    parameters = list(model.parameters())
    has_adapter = hasattr(model, "peft_config")
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in parameters)
    found.model = ModelFacts(
        architecture=type(model.get_base_model() if has_adapter else model).__name__,
        parameters=total - trainable if has_adapter else total,
        trainable=trainable,
    )
    if selector is None:
        return
    if selector.history is not None and selector.history.requires_adapter and not has_adapter:
        return  # which has been said
    with found.looking_at("The selection"):
        selector.attach(model, TrainingRun(tokenizer=tokenizer, folder=Path(folder) if folder else None))
        found.selected(selector)
        described = {name: each.describe() for name, each in selector.plan.measurements.items()}
        found.model.measured = {name: text for name, text in described.items() if text}
        if selector.history is not None:
            data = found.data or DataFacts()
            times = 2 if "unprompted" in selector.needs else 1  # each answer once more, without its prompt
            memory = selector.history.memory(times * data.samples, times * data.response_tokens)
            found.model.memory = {place: size for place, size in memory.items() if found.data or place == "device"}


def can_quantise(quantization_config: Any) -> None:
    """Raises what loading the model would, such as ImportError for a missing bitsandbytes."""
    if quantization_config is not None:
        AutoHfQuantizer.from_config(quantization_config).validate_environment(device_map=None)
