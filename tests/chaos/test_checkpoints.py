"""Checkpoints that were damaged, edited, mixed, or given to another run."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sstoken_transformers import newest_whole_checkpoint
from sstoken_transformers.checkpoints import refuse_another_adapter, sound_checkpoint
from sstoken_transformers.contents import TRAINER_FILE
from sstoken_transformers.state import STATE_FILE, TENSORS_FILE, load_state

from .damage import damaged, wrong_entries
from .training import HISTORIES, adapted, earlier_adapter, equal, learned, make

WITH_TENSORS = ("snapshot", "ema", "last_visit")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of each history: its folder, with checkpoints 1 to 4, and a trainer of the same options."""
    top = tmp_path_factory.mktemp("runs")
    earlier_adapter(top)
    made: dict[str, tuple[Path, Any]] = {}

    def of(history: str) -> tuple[Path, Any]:
        if history not in made:
            make(top / history, history, max_steps=4, save_total_limit=None).train()
            made[history] = (top / history, make(top / history, history, max_steps=4))
        return made[history]

    return of


def opened(checkpoint: Path, trainer: Any) -> dict[str, Any]:
    """All that `train` reads of a checkpoint, by the same functions, or a refusal."""
    found = Path(str(sound_checkpoint(str(checkpoint), checkpoint.parent)))
    refuse_another_adapter(found, trainer.model)
    load_state(trainer.token_selector, found)
    state = {name: tensor.clone() for name, tensor in trainer.token_selector.state_dict().items()}
    trainer_state = json.loads((found / TRAINER_FILE).read_text())
    trainer_state.pop("stateful_callbacks")
    names = ("adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth")
    return {"state": state, "trainer": trainer_state, **{name: (found / name).read_bytes() for name in names}}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    rest = [{name: value for name, value in each.items() if name != "state"} for each in (one, other)]
    return equal(one["state"], other["state"]) and rest[0] == rest[1]


def copied(runs: Any, history: str, tmp_path: Path) -> tuple[Path, Any, dict[str, Any]]:
    folder, trainer = runs(history)
    expected = opened(folder / "checkpoint-3", trainer)
    return Path(shutil.copytree(folder, tmp_path / "run")) / "checkpoint-3", trainer, expected


@pytest.mark.parametrize("n", [20, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize("history", WITH_TENSORS)
def test_any_damage_of_any_file(ledger, runs, tmp_path, history, n):
    checkpoint, trainer, expected = copied(runs, history, tmp_path)
    rng = random.Random(history)
    for _ in range(n):
        path = rng.choice(sorted(checkpoint.iterdir()))
        content = path.read_bytes()
        how, wrong = damaged(content, rng)
        path.write_bytes(wrong)
        ledger.trial("damaged checkpoint", (history, path.name, how), lambda: opened(checkpoint, trainer),
                     lambda found: same(found, expected), names=(path.name, str(checkpoint)))  # fmt: skip
        path.write_bytes(content)


@pytest.mark.parametrize("n", [10, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [TRAINER_FILE, STATE_FILE, "adapter_config.json"])
def test_wrong_entries(ledger, runs, tmp_path, name, n):
    checkpoint, trainer, expected = copied(runs, "snapshot", tmp_path)
    content = (checkpoint / name).read_bytes()
    for how, wrong in wrong_entries(content, random.Random(name), n):
        (checkpoint / name).write_bytes(wrong)
        ledger.trial("edited checkpoint", (name, how), lambda: opened(checkpoint, trainer),
                     lambda found: same(found, expected), names=str(checkpoint))  # fmt: skip


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def foreign_weights(checkpoint: Path) -> None:
    path = checkpoint / "adapter_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path, {"format": "pt"})


def other_tensors(checkpoint: Path) -> None:
    save_file({"x": torch.zeros(3)}, checkpoint / TENSORS_FILE)


EDITS = {
    "global_step 0": lambda folder: edit(folder / TRAINER_FILE, global_step=0),
    "global_step 1e9": lambda folder: edit(folder / TRAINER_FILE, global_step=10**9),
    "another epoch": lambda folder: edit(folder / TRAINER_FILE, epoch=0.1),
    "another best metric": lambda folder: edit(folder / TRAINER_FILE, best_metric=1.0),
    "trainer state of another checkpoint": lambda folder: shutil.copy(folder.parent / "checkpoint-2" / TRAINER_FILE,
                                                                      folder / TRAINER_FILE),
    "trainer state null": lambda folder: (folder / TRAINER_FILE).write_text("null"),
    "trainer state empty": lambda folder: (folder / TRAINER_FILE).write_text("{}"),
    "has_tensors false": lambda folder: edit(folder / STATE_FILE, has_tensors=False),
    "config empty": lambda folder: edit(folder / STATE_FILE, config={}),
    "config a list": lambda folder: edit(folder / STATE_FILE, config=[]),
    "foreign adapter": foreign_weights,
    "adapter of another checkpoint": lambda folder: shutil.copy(
        folder.parent / "checkpoint-2" / "adapter_model.safetensors", folder / "adapter_model.safetensors"),
    "history of another checkpoint": lambda folder: shutil.copy(folder.parent / "checkpoint-2" / TENSORS_FILE,
                                                                folder / TENSORS_FILE),
    "optimizer of another checkpoint": lambda folder: shutil.copy(folder.parent / "checkpoint-2" / "optimizer.pt",
                                                                  folder / "optimizer.pt"),
    "another safetensors": other_tensors,
    "no optimizer": lambda folder: (folder / "optimizer.pt").unlink(),
    "no scheduler": lambda folder: (folder / "scheduler.pt").unlink(),
    "no random state": lambda folder: (folder / "rng_state.pth").unlink(),
    "no history": lambda folder: (folder / TENSORS_FILE).unlink(),
    "no sstoken.json": lambda folder: (folder / STATE_FILE).unlink(),
    "no adapter": lambda folder: (folder / "adapter_model.safetensors").unlink(),
}  # fmt: skip


@pytest.mark.parametrize("history", WITH_TENSORS)
@pytest.mark.parametrize("case", EDITS)
def test_mixtures(ledger, runs, tmp_path, case, history):
    checkpoint, trainer, expected = copied(runs, history, tmp_path)
    EDITS[case](checkpoint)
    ledger.trial("edited checkpoint", (history, case), lambda: opened(checkpoint, trainer),
                 lambda found: same(found, expected), names=str(checkpoint))  # fmt: skip


TENSORS = {
    "gone": lambda tensor: None,
    "flat": lambda tensor: tensor.flatten(),
    "deep": lambda tensor: tensor[None],
    "one more": lambda tensor: torch.cat([tensor.flatten(), tensor.flatten()[:1]]),
    "other numbers": lambda tensor: tensor.double() if tensor.dtype != torch.float64 else tensor.int(),
    "negative": lambda tensor: -tensor if tensor.dtype in (torch.int32, torch.int64) else tensor[..., :-1],
}


@pytest.mark.parametrize("history", WITH_TENSORS)
def test_histories_that_were_saved_by_somebody_else(ledger, runs, tmp_path, history):
    """Of wrong form, in a checkpoint whose list fits."""
    checkpoint, trainer, _ = copied(runs, history, tmp_path)
    path = checkpoint / TENSORS_FILE
    content = load_file(path)
    for name in list(content)[:3]:
        for case, change in TENSORS.items():
            others = {key: tensor for key, tensor in content.items() if key != name}
            changed = change(content[name])
            wrong = others if changed is None else {**others, name: changed}
            save_file({key: value.contiguous() for key, value in wrong.items()}, path)

            def load() -> dict[str, torch.Tensor]:
                load_state(trainer.token_selector, checkpoint)
                return {key: value.clone() for key, value in trainer.token_selector.state_dict().items()}

            ledger.trial(
                "history of another form", (history, name, case), load,
                lambda found, wrong=wrong: found.keys() == wrong.keys() and all(
                    torch.equal(found[key].double(), value.double()) for key, value in wrong.items()
                ),
            )  # fmt: skip


def test_a_folder_that_was_renamed(ledger, runs, tmp_path):
    checkpoint, trainer, _ = copied(runs, "ema", tmp_path)
    renamed = checkpoint.rename(checkpoint.with_name("checkpoint-9"))
    ledger.trial("edited checkpoint", "renamed", lambda: opened(renamed, trainer), lambda found: False,
                 names="saved at step 3")  # fmt: skip


def test_half_deleted_checkpoints_are_passed_over(ledger, runs, tmp_path):
    """In whatever order its files went."""
    checkpoint, _, _ = copied(runs, "snapshot", tmp_path)
    newest = checkpoint.with_name("checkpoint-4")
    content = {path.name: path.read_bytes() for path in newest.iterdir()}
    read = [
        name
        for name in content
        if name.endswith((".safetensors", ".pt", ".pth")) or name in (STATE_FILE, TRAINER_FILE)
    ]
    rng = random.Random(0)
    for _ in range(20):
        order = sorted(content, key=lambda _: rng.random())
        for name in order[: rng.randint(1, len(order))]:
            (newest / name).unlink()
        gone = [name for name in read if not (newest / name).exists()]
        ledger.trial("half-deleted checkpoint", gone, lambda: newest_whole_checkpoint(newest.parent),
                     lambda found, gone=gone: found.name == ("checkpoint-3" if gone else "checkpoint-4"))  # fmt: skip
        for name, each in content.items():
            (newest / name).write_bytes(each)


def test_a_run_that_would_drop_the_selection(ledger, runs, tmp_path):
    checkpoint, _, _ = copied(runs, "base", tmp_path)
    for resume in (str(checkpoint), True):
        off = make(checkpoint.parent, "base", selects=False)
        ledger.trial("another run", "off", lambda off=off, resume=resume: off.train(resume_from_checkpoint=resume),
                     lambda found: False, names="token selection")  # fmt: skip


@pytest.mark.parametrize("history", HISTORIES)
def test_a_run_with_another_history(ledger, runs, tmp_path, history):
    checkpoint, _, _ = copied(runs, history, tmp_path)
    other = "ema" if history != "ema" else "snapshot"
    ledger.trial("another run", (history, other), lambda: opened(checkpoint, runs(other)[1]), lambda found: False,
                 names=("history", str(checkpoint)))  # fmt: skip


@pytest.mark.parametrize(
    "changed", [{"r": 4}, {"lora_alpha": 16}, {"target_modules": ["q_proj"]}, {"use_rslora": True}, {"use_dora": True},
                {"modules_to_save": ["lm_head"]}, {"bias": "all"}],
)  # fmt: skip
def test_a_run_with_another_adapter(ledger, runs, tmp_path, changed):
    checkpoint, trainer, _ = copied(runs, "base", tmp_path)
    (name,) = changed
    ledger.trial("another run", changed, lambda: refuse_another_adapter(checkpoint, adapted(**changed)),
                 lambda found: False, names=(f"`{name}`", str(checkpoint)))  # fmt: skip
    refuse_another_adapter(checkpoint, trainer.model)


def test_a_checkpoint_of_plain_training_is_continued_and_saved_again(tmp_path, caplog):
    make(tmp_path / "plain", "base", selects=False, max_steps=2).train()
    trainer = make(tmp_path / "plain", "ema", max_steps=4)
    trainer.train(resume_from_checkpoint=str(tmp_path / "plain" / "checkpoint-2"))
    assert "was saved without token selection" in caplog.text
    again = make(tmp_path / "plain", "ema", max_steps=4)
    again.train(resume_from_checkpoint=True)
    assert equal(learned(again), learned(trainer))


def test_states_of_callbacks_can_be_restored(tmp_path):
    """transformers then puts new instances in the place of those that export their state."""
    more = {"max_steps": 4, "restore_callback_states_from_checkpoint": True}
    whole = make(tmp_path / "run", "snapshot", save_total_limit=None, **more)
    whole.train()
    resumed = make(tmp_path / "run", "snapshot", **more)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert equal(learned(whole), learned(resumed))
    assert newest_whole_checkpoint(tmp_path / "run").name == "checkpoint-4"
    sound_checkpoint(True, tmp_path / "run")
