"""The base model: the trained adapter switched off."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ..errors import refused
from ..markers import hookimpl
from ..model.adapters import AdapterSwitch, adapter_has_learned, base_weights, has_adapter
from .base import History, LiveHistory, TrainingRun

# Initialisations that move the base's weights, so that adapter and base together begin where the base was.
MOVING = ("pissa", "olora", "corda", "loftq", "lora_ga")
CONTINUES = "training continues from an adapter that has learned already"


class BaseHistory(LiveHistory):
    """The paper's default: the model before fine-tuning began. Costs one forward pass and no memory."""

    requires_adapter = True
    below_adapter = True
    begins_as_model = True

    def attach(self, model: Any, run: TrainingRun) -> None:
        require_adapter(model, self.name)
        refuse_prompt_learning(model)
        refuse_moved_base(model, self.name)
        refuse_trained_base(model, self.name)
        if adapter_has_learned(model):
            warnings.warn(
                f"`history` is {self.name!r} and {CONTINUES}: tokens are compared with the base model below that "
                "adapter, not with where this run starts. If you want the latter, set `history` to 'adapter' and "
                "`history_adapter` to the folder you continue from.",
                stacklevel=2,
            )
        self._switch = AdapterSwitch(model)

    def active(self, model: Any) -> AbstractContextManager[None]:
        return self._switch.off(model)


WITHOUT_ADAPTER = (
    "in full fine-tuning the earlier weights are gone after the first step. Set {history} to 'auto', which records "
    "what the model says of the data before it, or to 'recorded' or 'last_visit', which need no weights either; or "
    "train with LoRA or QLoRA; or set {gamma} to 0 to select by attention alone."
)


WITHOUT_ADAPTER_BESIDE = (
    "the reference is loaded beside the adapter in training. Train with LoRA or QLoRA; or record the reference with "
    "`sstoken record --as reference` and set {reference_store}."
)


def require_adapter(model: Any, name: str, option: str = "history") -> None:
    """Args:
        name: the value of the option.
        option: what asks for the adapter: "history" or "reference_adapter".

    Raises:
        Refused: unless the model has a PEFT adapter.
    """
    if not has_adapter(model):
        how = WITHOUT_ADAPTER if option == "history" else WITHOUT_ADAPTER_BESIDE
        raise refused(f"{{{option}}} is {{name!r}} but the model has no adapter: {how}", name=name)


def refuse_prompt_learning(model: Any) -> None:
    """Raises:
    Refused: for adapters that are not on weights.
    """
    for name, config in model.peft_config.items():
        if getattr(config, "is_prompt_learning", False):
            raise refused(
                "Adapter {adapter!r} is of type {kind}, which adds virtual tokens to every sequence: token selection "
                "supports adapters on weights, such as LoRA.",
                adapter=name,
                kind=config.peft_type.value,
            )


def refuse_moved_base(model: Any, history: str, option: str = "history") -> None:
    """Raises:
    Refused: if the model below the adapter is not the one that was loaded. The arguments are as above.
    """
    for name, config in model.peft_config.items():
        initialisation = getattr(config, "init_lora_weights", None)
        if isinstance(initialisation, str) and initialisation.startswith(MOVING):
            raise refused(
                f"{{{option}}} is {{name!r}}, but adapter {{adapter!r}} is initialised by {{initialisation!r}} "
                "(init_lora_weights), which takes its start out of the base model's weights: the model below the "
                f"adapter is not the one that was loaded. Set `init_lora_weights` to True, or {_instead(option)}.",
                name=history,
                adapter=name,
                initialisation=initialisation,
            )


def refuse_trained_base(model: Any, history: str, option: str = "history") -> None:
    """Raises:
    Refused: if switching the adapter off would not bring the base model back, since some of it trains too.
    """
    for name, config in model.peft_config.items():
        if (bias := getattr(config, "bias", "none")) != "none":
            raise refused(
                f"{{{option}}} is {{name!r}} but adapter {{adapter!r}} trains biases (bias={{bias!r}}), which are the "
                "base model's own and stay changed when the adapter is switched off: set its `bias` to 'none', or "
                f"{_instead(option)}"
                + (", or {gamma} to 0 to select by attention alone." if option == "history" else "."),
                name=history,
                adapter=name,
                bias=bias,
            )
    trained = [name for name, parameter in base_weights(model) if parameter.requires_grad]
    if trained:
        raise refused(
            f"{{{option}}} is {{name!r}}, but {{n}} parameters of the base model train beside the adapter, such as "
            "{parameter!r}, and stay changed when the adapter is switched off: freeze them, train them as the "
            f"adapter's `modules_to_save`, or {_instead(option)}.",
            name=history,
            n=len(trained),
            parameter=trained[0],
        )


def _instead(option: str) -> str:
    if option == "history":
        return "set {history} to 'snapshot'"
    return "record the reference (`sstoken record --as reference`) and set {reference_store}"


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    register("base", BaseHistory)
