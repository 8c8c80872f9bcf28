"""A training that is told to stop (SIGTERM), at any phase, leaves a checkpoint of the step that it names."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback
from transformers.trainer_jit_checkpoint import JITCheckpointCallback

from .process import apart
from .test_kill import resumed, train
from .training import HISTORIES, earlier_adapter, make

PHASES = ("on_step_begin", "on_pre_optimizer_step", "on_optimizer_step", "on_step_end", "on_save", "the forward pass")


class Stops(TrainerCallback):
    """Sends this process the signal at one phase of one step, before or after all other callbacks."""

    def __init__(self, phase: str, step: int) -> None:
        self.step = step
        self.sent = False
        setattr(self, phase, self._send)

    def _send(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= self.step:
            self.send()

    def send(self) -> None:
        if self.sent:
            return
        self.sent = True
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)  # until the trainer's own timer has asked for the checkpoint


def train_and_stop(folder: Path, history: str, phase: str, step: int, first: bool) -> None:
    stops = Stops(phase.replace(" ", "_"), step)
    trainer = make(folder, history, save_strategy="no", enable_jit_checkpoint=True, save_total_limit=None)
    if phase == "the forward pass":
        compute = trainer.compute_loss

        def compute_loss(*arguments: Any, **named: Any) -> Any:
            if trainer.state.global_step >= step:
                stops.send()
            return compute(*arguments, **named)

        trainer.compute_loss = compute_loss
    place = 0 if first else len(trainer.callback_handler.callbacks)
    trainer.callback_handler.callbacks.insert(place, stops)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, JITCheckpointCallback):
            callback.jit_manager.kill_wait = 0.01
    if phase == "on_save":
        trainer.args.save_strategy, trainer.state.save_steps = "steps", 1
        trainer.args.save_steps = 1
    trainer.train()


def stopped(ledger: Any, tmp_path: Path, history: str, cases: list[tuple[str, int, bool]]) -> None:
    earlier_adapter(tmp_path)
    assert apart(train, tmp_path / "whole", history) == 0
    expected = torch.load(tmp_path / "whole" / "final.pt")
    for number, (phase, step, first) in enumerate(cases):
        folder = tmp_path / f"stopped-{number}"
        assert apart(train_and_stop, folder, history, phase, step, first) == 0
        assert list(folder.glob("checkpoint-*")), (history, phase, step, first)
        ledger.trial(
            "SIGTERM at a phase", (history, phase, step, first), lambda folder=folder: resumed(folder, history),
            lambda found: all(torch.equal(found[name], expected[name]) for name in expected),
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("history", HISTORIES)
def test_stopped_at_any_phase(ledger, tmp_path, history):
    stopped(ledger, tmp_path, history, [(phase, step, first) for phase in PHASES for step in (1, 3)
                                        for first in (True, False)])  # fmt: skip


def test_stopped_while_the_optimizer_steps(ledger, tmp_path):
    stopped(ledger, tmp_path, "snapshot", [("on_optimizer_step", 1, True), ("on_step_end", 2, False)])
