"""The attention that each token pays to its prompt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor, nn

from ..data import Documents
from ..histories import TrainingRun
from ..markers import hookimpl
from ..model import PromptAttention
from ..options import NoOptions, option
from .base import Column, Measurement, TrainingPass


@dataclass(frozen=True)
class AttentionOptions(NoOptions):
    attention_layer: int = option(-1, "Layer whose attention to the prompt is read; negative counts from the last.")


class AttentionToPrompt(TrainingPass):
    """Mass of the token's attention on its document's prompt, in [0, 1], mean over the heads of one layer.

    One more call of the attention kernel, in that layer.
    """

    Options = AttentionOptions
    cost = "one more call of the attention kernel, in one layer"
    column = Column("attention", "The share of the token's attention, in one layer, that goes to the prompt.")

    def attach(self, model: nn.Module, run: TrainingRun) -> None:
        self._probe = PromptAttention(model, self.options.attention_layer)

    def describe(self) -> str:
        layer = self._probe.module
        return f"layer {layer.layer_idx} ({type(layer).__name__}, {layer.config._attn_implementation})"

    def record(self, documents: Documents) -> AbstractContextManager[list[Tensor]]:
        return self._probe.record(documents)


@hookimpl
def register_measurements(register: Callable[[str, type[Measurement]], None]) -> None:
    register("attention", AttentionToPrompt)
