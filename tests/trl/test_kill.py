"""Trainings that are killed with SIGKILL, wherever they are, end where the one ends that never was."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from ..kill import killed_at_random
from .test_histories import HISTORIES, options  # noqa: F401
from .test_training import difference


@pytest.mark.slow
@pytest.mark.parametrize("history", HISTORIES)
def test_killed_five_times(make_trainer, options, tmp_path, history):  # noqa: F811
    def train(elsewhere: bool = False) -> None:
        folder = tmp_path / ("whole" if elsewhere else "killed")
        own = options(history)
        if history == "recorded":
            own["sstoken_history_store"] = str(folder / "store")
        trainer = make_trainer(
            output_dir=folder, max_steps=60, save_strategy="steps", save_steps=1, save_total_limit=3,
            gradient_accumulation_steps=2, per_device_train_batch_size=2, **own,
        )  # fmt: skip
        print([path.name for path in folder.glob("checkpoint-*")])
        resume = any(folder.glob("checkpoint-*/trainer_state.json"))
        trainer.train(resume_from_checkpoint=resume)
        trainer.save_model(folder / "final")

    killed_at_random(train, kills=5, seed=HISTORIES.index(history))
    whole, killed = (load_file(tmp_path / run / "final" / "adapter_model.safetensors") for run in ("whole", "killed"))
    assert difference(whole, killed) == 0
