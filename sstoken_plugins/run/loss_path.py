"""Which way to the loss: by the pass that gives the scores, or by the framework's own computation."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ..config import SSTokenConfig
from ..errors import Problem, refuse
from ..model import UnreadableHead
from ..model.forward import check_against_logits
from ..model.head import output_head
from ..model.randomness import Randomness
from .engine import Engine, without_ddp

logger = logging.getLogger(__name__)


class LossPath:
    """Decides once, and says why where it is not the fast way."""

    def __init__(self, config: SSTokenConfig, selects: bool) -> None:
        self._config, self._selects = config, selects
        self._framework = self._checked = False
        self._engine: Engine | None = None
        if config.loss == "framework":
            self.use_framework("`loss` says so")

    def attach(self, model: nn.Module, engine: Engine, reads_the_model: bool) -> None:
        self._engine = engine
        if Randomness(output_head(model)).active:
            self.use_framework(
                "the output head has an adapter with dropout (`lora_dropout`), and other elements of it would be "
                "dropped when backward computes its log-probabilities again"
            )
        if engine.randomness.active and not self._framework and reads_the_model:
            logger.warning(
                "The model has dropout, or other chance: scores are taken without it, in one more forward pass. Set "
                "it to 0 (lora_dropout: 0) and the training pass itself gives the scores."
            )

    def use_framework(self, reason: str) -> None:
        """Raises:
        Refused: if the options or the method exclude it.
        """
        refuse(self.problems(reason))
        if not self._framework:
            logger.warning(
                "The loss is the framework's own, over the kept tokens, because %s. That costs one more forward pass.",
                reason,
            )
        self._framework = True

    def problems(self, reason: str) -> Iterator[Problem]:
        """What excludes a loss of the framework's own."""
        if self._config.loss == "own":
            yield Problem(
                "{loss} is 'own', but it has to be the framework's, because {reason}. Set {loss} to 'auto', or remove "
                "the cause.",
                reason=reason,
            )
        if not self._selects:
            yield Problem(
                "{strategy} is {method!r}, which weighs tokens, but the loss has to be the framework's own, which can "
                "only leave tokens out, because {reason}. Remove the cause, or choose a method that selects.",
                method=self._config.strategy,
                reason=reason,
            )

    def is_framework(self, model: nn.Module, inputs: Mapping[str, Any]) -> bool:
        """Whether it has to be the framework's; the first call compares the head with the model's own logits."""
        assert self._engine is not None
        if not self._checked:
            self._checked = True
            try:
                with self._engine.randomness.off():
                    check_against_logits(without_ddp(model), inputs)
            except UnreadableHead as error:
                self.use_framework(str(error))
                self._engine.needs_logits = True
        return self._framework
