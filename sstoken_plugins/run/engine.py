"""Runs the model: the training pass, and every pass without gradient that a measurement asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data import Documents, MicroBatch
from ..guard import checked, expect
from ..histories import TrainingRun
from ..measure import HeadStatistic, Measurement, OwnPass, TrainingPass
from ..model import TokenForward, logits_forward, token_forward, unwrapped
from ..model.forward import Recorder
from ..model.logits import STATISTICS, Statistic
from ..model.randomness import Randomness


class Engine:
    """The one place that decides which passes happen.

    Args:
        measurements: all that may be asked for, each after those that it needs.
    """

    def __init__(self, measurements: Mapping[str, Measurement]) -> None:
        self._measurements = measurements
        self.needs_logits = False

    def attach(self, model: nn.Module, run: TrainingRun) -> None:
        self._run = run
        self.randomness = Randomness(model)
        for history in {id(m.history): m.history for m in self._measurements.values() if m.history}.values():
            history.attach(model, run)
        for measurement in self._measurements.values():
            measurement.attach(model, run)

    def training_pass(
        self, model: nn.Module, batch: MicroBatch, names: Iterable[str], n_kept: int | None
    ) -> tuple[TokenForward, dict[str, Tensor]]:
        """The pass that learns, and what was measured of the batch: `names`, and the log-probabilities.

        One pass serves both, unless chance disturbs it. Then whatever is read of the model is measured in a pass of
        its own, and without anything to read, the log-probabilities are those of the training pass.
        """
        names = list(names)
        others = self._own_passes(model, batch, names)
        apart = self.randomness.active and any(not isinstance(self._measurements[name], OwnPass) for name in names)
        scored = self._score(model, batch, names) if apart else None
        forward = token_forward(
            model,
            batch.inputs,
            batch.documents,
            statistics={**STATISTICS, **({} if apart else self._statistics(names))},
            recorders={} if apart else self._recorders(names),
            n_kept=n_kept,
        )
        return forward, self._known(scored or forward, others)

    def measure(self, model: nn.Module, batch: MicroBatch, names: Iterable[str]) -> dict[str, Tensor]:
        """The same without learning, by passes without gradient and chance."""
        names = list(names)
        others = self._own_passes(model, batch, names)
        return self._known(self._score(model, batch, names), others)

    def passes(self, model: nn.Module) -> ModelPasses:
        """What measurements run the model by."""
        return ModelPasses(self, model)

    @torch.no_grad()
    def read(self, model: nn.Module, batch: MicroBatch, statistics: Mapping[str, Statistic]) -> TokenForward:
        """What the head says under the model as it is now, without gradient and chance."""
        run = logits_forward if self.needs_logits else token_forward
        with self.randomness.off():
            return run(without_ddp(model), batch.inputs, batch.documents, statistics=statistics)

    def _own_passes(self, model: nn.Module, batch: MicroBatch, names: Iterable[str]) -> dict[str, Tensor]:
        passes = self.passes(model)
        return {name: passes.measure(name, batch) for name in names if isinstance(self._measurements[name], OwnPass)}

    def _checked(self, name: str, method: str, values: Any, expected: Tensor) -> Tensor:
        return checked("measurement", name, self._measurements[name], method, values, expected)

    @torch.no_grad()
    def _score(self, model: nn.Module, batch: MicroBatch, names: Iterable[str]) -> TokenForward:
        run = logits_forward if self.needs_logits else token_forward
        with self.randomness.off():
            return run(
                without_ddp(model),
                batch.inputs,
                batch.documents,
                statistics={**STATISTICS, **self._statistics(names)},
                recorders=self._recorders(names),
            )

    def _known(self, forward: TokenForward, others: Mapping[str, Tensor]) -> dict[str, Tensor]:
        known = {"log_probs": forward.log_probs.detach(), **forward.values}
        for name, values in others.items():
            compared = self._measurements[name].compare(values, known)
            known[name] = self._checked(name, "compare", compared, known["log_probs"])
        return known

    def _statistics(self, names: Iterable[str]) -> dict[str, Statistic]:
        chosen = {name: self._measurements[name] for name in names if name != "log_probs"}

        def of(name: str, each: HeadStatistic) -> Statistic:
            return lambda chunk: self._checked(name, "of", each.of(chunk), chunk.chosen)

        return {name: of(name, each) for name, each in chosen.items() if isinstance(each, HeadStatistic)}

    def _recorders(self, names: Iterable[str]) -> dict[str, Recorder]:
        chosen = {name: self._measurements[name] for name in names}

        def record(name: str, each: TrainingPass) -> Recorder:
            return lambda documents: self._recorded(name, each, documents)

        return {name: record(name, each) for name, each in chosen.items() if isinstance(each, TrainingPass)}

    @contextlib.contextmanager
    def _recorded(self, name: str, each: TrainingPass, documents: Documents) -> Iterator[list[Tensor]]:
        opened: Any = each.record(documents)
        is_right = isinstance(opened, AbstractContextManager)
        expect("measurement", name, each, "record", opened, is_right, "a context manager")
        with opened as recorded:
            yield recorded
        is_right = isinstance(recorded, list) and all(isinstance(each, Tensor) for each in recorded)
        expect("measurement", name, each, "record", recorded, is_right, "a context manager with a list of tensors")
        for values in recorded:
            # A split model may leave it on another device; one without numbers is none.
            here = documents.ids if values.is_meta else documents.ids.to(values.device)
            self._checked(name, "record", values, here)


class ModelPasses:
    """`measure.Passes` on one model."""

    def __init__(self, engine: Engine, model: nn.Module) -> None:
        self._engine = engine
        self._wrapped = model
        self.model = unwrapped(model)

    def log_probs(self, batch: MicroBatch) -> Tensor:
        return self._engine.read(self._wrapped, batch, {}).log_probs

    def statistic(self, statistic: Statistic, batch: MicroBatch) -> Tensor:
        return self._engine.read(self._wrapped, batch, {"statistic": statistic}).values["statistic"]

    def measure(self, name: str, batch: MicroBatch) -> Tensor:
        measurement = self._engine._measurements[name]
        assert isinstance(measurement, OwnPass)
        with torch.no_grad():
            values = measurement.measure(self, batch)
        return self._engine._checked(name, "measure", values, batch.documents.ids)

    def agree(self, wanted: bool) -> bool:
        return self._engine._run.any_process(wanted)


def without_ddp(model: nn.Module) -> nn.Module:
    """The model inside `DistributedDataParallel`, whose forward pass would synchronise buffers and wait for others.

    Sharded models are run as they are: theirs has to gather the weights.
    """
    if isinstance(model, DistributedDataParallel):
        inner: nn.Module = model.module
        return inner
    return model
