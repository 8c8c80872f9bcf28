"""The base model: the trained adapter switched off."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from typing import Any

from . import LiveHistory, TrainingRun
from .switching import AdapterSwitch


class BaseHistory(LiveHistory):
    """The paper's default: the model before fine-tuning began. Costs one forward pass and no memory."""

    requires_adapter = True

    def attach(self, model: Any, run: TrainingRun) -> None:
        require_adapter(model, self.config.history)
        refuse_prompt_learning(model)
        refuse_biases(model, self.config.history)
        if adapter_has_learned(model):
            warnings.warn(
                "`history` is 'base' and training continues from an adapter that has learned already: tokens are "
                "compared with the base model below that adapter, not with where this run starts. If you want the "
                "latter, set `history` to 'adapter' and `history_adapter` to the folder you continue from.",
                stacklevel=2,
            )

        self._switch = AdapterSwitch(model)

    def active(self, model: Any) -> AbstractContextManager[None]:
        return self._switch.off(model)


WITHOUT_ADAPTER = (
    "in full fine-tuning the earlier weights are gone after the first step. Train with LoRA or QLoRA; or set "
    "`history` to 'recorded' or 'last_visit', which need no weights; or set `gamma` to 0 to select by attention alone."
)


def has_adapter(model: Any) -> bool:
    return hasattr(model, "peft_config") and hasattr(model, "disable_adapter")


def require_adapter(model: Any, history: str) -> None:
    """Raises:
    ValueError: unless the model has a PEFT adapter.
    """
    if not has_adapter(model):
        raise ValueError(f"`history` is {history!r} but the model has no adapter: {WITHOUT_ADAPTER}")


def refuse_prompt_learning(model: Any) -> None:
    """Raises:
    ValueError: for adapters that are not on weights.
    """
    for name, config in model.peft_config.items():
        if getattr(config, "is_prompt_learning", False):
            raise ValueError(
                f"Adapter {name!r} is of type {config.peft_type.value}, which adds virtual tokens to every sequence: "
                "token selection supports adapters on weights, such as LoRA."
            )


def refuse_biases(model: Any, history: str) -> None:
    """Raises:
    ValueError: if switching the adapter off would not bring the base model back.
    """
    for name, config in model.peft_config.items():
        if (bias := getattr(config, "bias", "none")) != "none":
            raise ValueError(
                f"`history` is {history!r} but adapter {name!r} trains biases (bias={bias!r}), which are the base "
                "model's own and stay changed when the adapter is switched off: set its `bias` to 'none', or set "
                "`history` to 'snapshot', or `gamma` to 0 to select by attention alone."
            )


def adapter_has_learned(model: Any) -> bool:
    """Whether switching the adapter off would change the model: some LoRA B matrix is not zero."""
    return any(
        bool(parameter.detach().count_nonzero())
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not parameter.is_meta and ("lora_B" in name or "lora_embedding_B" in name)
    )
