"""Copies of what trains, that follow it: `snapshot` in leaps, `ema` steadily."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import refused
from ..markers import hookimpl
from ..model.sharded import replaced, several_processes, whole
from ..options import NoOptions, option
from .base import History, LiveHistory, TrainingRun
from .below_adapter import refuse_prompt_learning, require_adapter


class _EarlierWeights(LiveHistory):
    """A copy of every trainable parameter, which takes its place for the length of a forward pass.

    The pass runs through the same modules and kernels as the training pass, whatever the kind of adapter. Where the
    weights are sharded, each process has a whole copy, as adapters are small.
    """

    requires_adapter = True
    begins_as_model = True

    def attach(self, model: Any, run: TrainingRun) -> None:
        require_adapter(model, self.name)
        refuse_prompt_learning(model)
        self._owners = {
            name: (model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        self._weights = {name: value.clone() for name, value in self._trained()}
        self._is_shared = False

    @contextlib.contextmanager
    def active(self, model: nn.Module) -> Iterator[None]:
        parameters = self._parameters()
        if not self._is_shared and several_processes():
            # Since they were copied, a wrapper has given every process the parameters of the first one.
            self._copy_trained()
        self._is_shared = True
        for name, parameter in parameters.items():
            # An engine may have cast or moved the model since.
            self._weights[name] = self._weights[name].to(parameter.device, parameter.dtype)
        try:
            with replaced(model, [(parameter, self._weights[name]) for name, parameter in parameters.items()]):
                torch.clear_autocast_cache()  # it knows parameters by their identity, not by their content
                yield
        finally:
            torch.clear_autocast_cache()

    def memory(self, n_documents: int, n_response: int) -> Mapping[str, int]:
        return {"device": sum(weight.nbytes for weight in self._weights.values())}

    def state_dict(self) -> dict[str, Tensor]:
        return {f"weights.{name}": weight for name, weight in self._weights.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            saved = state.get(f"weights.{name}")
            if saved is None or saved.shape != weight.shape:
                raise refused(
                    "The checkpoint's history has {what} {parameter!r}: give the run the adapter that it was started "
                    "with.",
                    what="no" if saved is None else "another shape of",
                    parameter=name,
                )
            weight.copy_(saved)
        self._is_shared = True

    def _trained(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters' values as they are now; all processes must ask together."""
        parameters = self._parameters()
        yield from zip(parameters, whole(parameters.values()), strict=True)

    def _copy_trained(self) -> None:
        for name, value in self._trained():
            self._weights[name].copy_(value)

    def _parameters(self) -> dict[str, nn.Parameter]:
        # PEFT puts new parameters in place of the old when it loads an adapter, so they are looked up each time.
        return {name: module.get_parameter(key) for name, (module, key) in self._owners.items()}


@dataclass(frozen=True)
class SnapshotOptions(NoOptions):
    refresh_steps: float = option(
        0.25,
        "The snapshot is renewed every so many optimizer steps; below 1: every such fraction of an epoch.",
        valid=lambda steps: 0 < steps <= 1 or (0 < steps < math.inf and steps == int(steps)),
        otherwise=": set it to a whole number of optimizer steps, such as 100, or to a fraction of an epoch, such as "
        "0.25.",
        shown=True,
    )


class SnapshotHistory(_EarlierWeights):
    """The adapter in training as it was a while ago, renewed every `refresh_steps`. Costs one forward pass and the
    adapter's own memory; right after a renewal, rel is 0."""

    Options = SnapshotOptions

    def __init__(self, options: SnapshotOptions, name: str = "snapshot") -> None:
        super().__init__(options, name)
        self._renewals = torch.zeros((), dtype=torch.int64)  # due by now, if they come by fractions of an epoch

    def step_end(self, model: nn.Module, step: int, epoch: float | None) -> None:
        every = self.options.refresh_steps
        if every >= 1:
            due = step % int(every) == 0
        elif epoch is None:
            raise refused(
                "{refresh_steps} is {every}, a fraction of an epoch, but this training loop does not say which epoch "
                "it is in: set it to a number of steps.",
                every=every,
            )
        else:
            renewals = math.floor(epoch / every + 1e-6)
            due = renewals > int(self._renewals)
            self._renewals.fill_(renewals)
        if due:
            self._copy_trained()

    def state_dict(self) -> dict[str, Tensor]:
        return {**super().state_dict(), "renewals": self._renewals}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        renewals = state.get("renewals")
        if renewals is None or renewals.shape != () or renewals.dtype != torch.int64:
            raise refused(
                "The checkpoint's history does not say how often it was renewed: resume from another checkpoint."
            )
        self._renewals.copy_(renewals)


@dataclass(frozen=True)
class EmaOptions(NoOptions):
    ema_alpha: float = option(
        0.99,
        "The moving average keeps this fraction of itself at each optimizer step and takes the rest from the model.",
        valid=lambda alpha: 0 <= alpha < 1,
        otherwise=", but it is the fraction of the average that stays at each step: set it in [0, 1), for example "
        "0.99.",
        shown=True,
    )


class EmaHistory(_EarlierWeights):
    """`history <- ema_alpha * history + (1 - ema_alpha) * trained` after each step. Costs one forward pass and the
    adapter's own memory, in float32."""

    Options = EmaOptions

    def attach(self, model: Any, run: TrainingRun) -> None:
        super().attach(model, run)
        # In bfloat16, what a step adds to an average is too small to be seen: it would stand still.
        self._averages = {name: weight.float() for name, weight in self._weights.items()}

    def _copy_trained(self) -> None:
        super()._copy_trained()
        for name, weight in self._weights.items():
            self._averages[name].copy_(weight)

    def step_end(self, model: nn.Module, step: int, epoch: float | None) -> None:
        for name, value in self._trained():
            average = self._averages[name]
            average.lerp_(value.to(average), 1 - self.options.ema_alpha)
            self._weights[name].copy_(average)  # in float32 the two are one

    def memory(self, n_documents: int, n_response: int) -> Mapping[str, int]:
        both = {id(weight): weight for weight in (*self._weights.values(), *self._averages.values())}
        return {"device": sum(weight.nbytes for weight in both.values())}

    def state_dict(self) -> dict[str, Tensor]:
        return {f"weights.{name}": average for name, average in self._averages.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        for name, average in self._averages.items():
            average.copy_(state[f"weights.{name}"])


@hookimpl
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    register("snapshot", SnapshotHistory)
    register("ema", EmaHistory)
