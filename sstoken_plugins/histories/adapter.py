"""An earlier adapter, frozen, beside the one in training."""

from __future__ import annotations

import functools
import string
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from ..errors import Problem, refused
from ..markers import hookimpl
from ..model.adapters import AdapterSwitch, restore_trainable
from ..options import NoOptions, option
from .adapter_folder import CONFIG_FILE, check_adapter_weights, fingerprint_of, naming_folder, read_adapter_config
from .base import History, LiveHistory, TrainingRun
from .below_adapter import refuse_moved_base, refuse_prompt_learning, refuse_trained_base, require_adapter


@dataclass(frozen=True)
class AdapterOptions(NoOptions):
    history_adapter: str | None = option(
        None,
        "Folder of the PEFT adapter that tokens are compared with, in place of the base model.",
        shown=True,
        folder=True,
    )


@dataclass(frozen=True)
class RequiredAdapterOptions(AdapterOptions):
    def problems(self) -> Iterator[Problem]:
        if not self.history_adapter:
            yield Problem(
                "{history} is 'adapter' but {history_adapter} is not set: set it to the folder of the earlier adapter "
                "(the one with adapter_config.json and adapter_model.safetensors)."
            )


class AdapterHistory(LiveHistory):
    """A frozen adapter from a folder, as a second PEFT adapter on the same base model. Costs one forward pass and the
    adapter's own memory.

    Its layers carry the second set of weights, but neither `model.peft_config` nor `model.state_dict()` lists it:
    whatever saves, pushes, merges or describes the model sees the trained adapter alone.
    """

    Options = RequiredAdapterOptions
    requires_adapter = True
    folder_option: ClassVar[str] = "history_adapter"
    """The option that names the folder."""

    def __init__(self, options: Any, name: str = "adapter") -> None:
        super().__init__(options, name)
        folder = getattr(options, self.folder_option)
        assert folder is not None  # granted by the options
        self.folder = Path(folder)
        self.adapter = "sstoken_history"
        with naming_folder(self.folder_option):
            self._peft_config = read_adapter_config(self.folder)
            check_adapter_weights(self.folder, self._peft_config)
            self.fingerprint = fingerprint_of(self.folder, self._peft_config)

    def attach(self, model: Any, run: TrainingRun) -> None:
        asks = "history" if self.folder_option == "history_adapter" else self.folder_option
        require_adapter(model, self.name, asks)
        refuse_prompt_learning(model)
        refuse_moved_base(model, self.name, asks)
        refuse_trained_base(model, self.name, asks)
        self._check_base(model)
        trained = model.active_adapter
        self.adapter = _free_name(model)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        training = [(module, module.training) for module in model.modules()]
        names = frozenset(model.state_dict())
        try:
            result = model.load_adapter(self.folder, self.adapter, is_trainable=False, use_safetensors=True)
        except Exception as error:  # PEFT says what does not fit in many ways
            raise refused(
                f"{{{self.folder_option}}} {{folder!r}} does not fit the model: {{error}} Use an adapter that was "
                "trained on the same base model.",
                folder=str(self.folder),
                error=_first_line(error),
            ) from error
        if result.missing_keys or result.unexpected_keys:
            keys = [*result.missing_keys, *result.unexpected_keys]
            raise refused(
                f"{{{self.folder_option}}} {{folder!r}} does not fit the model: {{n}} weights are missing or "
                "unexpected, such as {key!r}. Use an adapter that was trained on the same base model.",
                folder=str(self.folder),
                n=len(keys),
                key=keys[0],
            )
        model.set_adapter(trained)
        restore_trainable(model, trainable)
        for module, was in training:
            module.training = was
        self._match_dtype(model, trained)
        self._drop_nothing(model)
        self._switch = AdapterSwitch(model)
        self._bytes = sum(p.nbytes for name, p in model.named_parameters() if self.adapter in name.split("."))
        del model.peft_config[self.adapter]
        # PEFT saves all adapter weights in the state dict except those of other adapters that it knows of.
        model.register_state_dict_post_hook(functools.partial(_leave_out, self.adapter, names))
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise refused(
                "No parameter of the model is trainable: load the adapter in training with is_trainable=True."
            )

    def active(self, model: Any) -> AbstractContextManager[None]:
        return self._switch.to(model, self.adapter)

    def describe(self) -> Mapping[str, Any]:
        return {"adapter_sha256": self.fingerprint}

    def memory(self, n_documents: int, n_response: int) -> Mapping[str, int]:
        return {"device": self._bytes}

    def _check_base(self, model: Any) -> None:
        theirs = self._peft_config.get("base_model_name_or_path")
        ours = model.peft_config[model.active_adapter].base_model_name_or_path or model.config._name_or_path
        if theirs and ours and Path(theirs).name != Path(ours).name:
            raise refused(
                f"{{{self.folder_option}}} {{folder!r}} was trained on {{theirs!r}}, but this run trains {{ours!r}}: "
                "an adapter only means something on its own base model. If both are the same model, correct "
                "`base_model_name_or_path` in the adapter's {file}.",
                folder=str(self.folder),
                theirs=theirs,
                ours=ours,
                file=CONFIG_FILE,
            )

    def _match_dtype(self, model: nn.Module, trained: str) -> None:
        """An adapter that comes later may be held in another precision, and would then differ from an equal one."""
        parameters = dict(model.named_parameters())
        for name, parameter in parameters.items():
            if f".{self.adapter}." in name or name.endswith(f".{self.adapter}"):
                twin = parameters.get(name.replace(self.adapter, trained))
                if twin is not None and twin.dtype != parameter.dtype:
                    parameter.data = parameter.data.to(twin.dtype)

    def _drop_nothing(self, model: nn.Module) -> None:
        """It is only ever scored; dropout of its own would look as if the training pass dropped something."""
        for name, module in model.named_modules():
            if isinstance(module, nn.Dropout) and name.endswith(f".{self.adapter}"):
                module.p = 0.0


def _free_name(model: Any) -> str:
    """A name that neither contains nor is part of another: PEFT looks for an adapter's name inside parameter names.

    Adapters that only the layers know, such as another of these, have theirs in the names of parameters alone.
    """
    listed: Collection[str] = model.peft_config
    inside = {part for name, _ in model.named_parameters() for part in name.split(".")}
    names = ("sstoken_history", *(letter * 8 for letter in string.ascii_lowercase))
    return next(
        name for name in names if name not in inside and not any(name in other or other in name for other in listed)
    )


def _leave_out(adapter: str, names: Collection[str], _module: nn.Module, state_dict: dict[str, Any], *_: Any) -> None:
    """Removes an adapter's weights from a state dict, and gives the others the names that they had before it came."""
    for key in list(state_dict):
        parts = key.split(".")
        if adapter in parts:
            del state_dict[key]
        elif "original_module" in parts and key not in names:
            # What the adapter replaces as a whole (its `modules_to_save`) has moved below a wrapper.
            state_dict[".".join(part for part in parts if part != "original_module")] = state_dict.pop(key)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (
        next((line for line in lines if "size mismatch" in line or "not found" in line), lines[0] if lines else "")
        + "."
    )


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    register("adapter", AdapterHistory)
