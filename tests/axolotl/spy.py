"""A plugin beside ours: it has its own trainer class, as real ones do, and hands the trainer to the test."""

from __future__ import annotations

from typing import Any

from axolotl.core.trainers import AxolotlTrainer
from axolotl.integrations.base import BasePlugin

from ..methods.steps import Watched

trainers: list[Any] = []


class OwnTrainer(Watched, AxolotlTrainer):
    """Counts what goes through its own `compute_loss`, and keeps its steps."""

    batches = 0

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self.batches += model.training
        return super().compute_loss(model, inputs, *args, **kwargs)


class SpyPlugin(BasePlugin):
    def get_trainer_cls(self, cfg: Any) -> type:
        return OwnTrainer

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        trainers.append(trainer)


class OneKernelPlugin(BasePlugin):
    """Keeps bitsandbytes to the kernels that it trains with."""

    def post_model_load(self, cfg: Any, model: Any) -> None:
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False


class OnCpuPlugin(BasePlugin):
    """Several processes: Axolotl expects a GPU for each."""

    def load_datasets(self, cfg: Any, preprocess: bool = False) -> None:
        cfg.device_map = {"": "cpu"}


class HijackTrainer(AxolotlTrainer):
    """Takes the loss over, and never calls the one it stands in front of."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return model(**inputs).loss


class HijackPlugin(BasePlugin):
    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        trainer.__class__ = type("Hijacked", (HijackTrainer, type(trainer)), {})
